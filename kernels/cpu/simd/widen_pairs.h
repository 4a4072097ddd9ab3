// Quantized weights as pairs of bfloat16, 64 bytes at a time, where matrix tiles read such pairs: the same
// numbers as widen.h makes, put together of their bits. 32 of NVFP4 take seven vector operations: one row's
// product is to wait for memory, which brings no more than some ten weights a cycle.
#pragma once

#include "kernels/cpu/simd/codes.h"
#include "kernels/cpu/simd/matmul.h"

namespace nemo::kernels {
namespace {

#if defined(__AVX512BF16__)

typedef uint8_t Bytes64 __attribute__((vector_size(64)));
typedef uint16_t Numbers __attribute__((vector_size(64)));  ///< 32 bfloat16, or what becomes of them
typedef uint8_t UnalignedBytes64 __attribute__((vector_size(64), aligned(1), may_alias));
typedef uint16_t UnalignedNumbers __attribute__((vector_size(64), aligned(2), may_alias));

NEMO_INLINE Bytes64 load_bytes(const uint8_t* p) {
  return *reinterpret_cast<const UnalignedBytes64*>(p);
}
NEMO_INLINE void store_numbers(uint32_t* p, Numbers v) {
  *reinterpret_cast<UnalignedNumbers*>(p) = v;
}

/// Entry index[i] % 32.
NEMO_INLINE Numbers look_up(Numbers table, Numbers index) {
  return (Numbers)_mm512_permutexvar_epi16((__m512i)index, (__m512i)table);
}
/// Bytes index[0], index[1], ...: each byte twice makes numbers of them.
NEMO_INLINE Numbers pick(Bytes64 bytes, Bytes64 index) {
  return (Numbers)_mm512_permutexvar_epi8((__m512i)index, (__m512i)bytes);
}

/// What a vector is loaded from.
struct Bytes64Table {
  alignas(64) uint8_t entries[64];
};
struct NumbersTable {
  alignas(64) uint16_t entries[32];
};
NEMO_INLINE Bytes64 load(const Bytes64Table& table) {
  return load_bytes(table.entries);
}
NEMO_INLINE Numbers load(const NumbersTable& table) {
  return (Numbers)load_bytes(reinterpret_cast<const uint8_t*>(table.entries));
}

/// Number i is made from byte byte_of(i), which stands in both of its halves.
template <class ByteOf>
constexpr Bytes64Table twice(ByteOf byte_of) {
  Bytes64Table index = {};
  for (int i = 0; i < 64; ++i) index.entries[i] = static_cast<uint8_t>(byte_of(i / 2));
  return index;
}

/// The numbers of e4m3 codes that stand in both halves; of its NaN 480. Subnormal ones are looked up, for
/// their bits lie elsewhere.
NEMO_INLINE Numbers numbers_of_e4m3(Numbers codes) {
  constexpr Numbers kSubnormal = {0, 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60};
  const Numbers bits = (codes >> 4 & 0x07f0) + 0x3c00;
  const __mmask32 subnormal = _mm512_testn_epi16_mask((__m512i)codes, (__m512i)(Numbers{} + 0x7800));
  const auto magnitude =
      (Numbers)_mm512_mask_permutexvar_epi16((__m512i)bits, subnormal, (__m512i)codes, (__m512i)kSubnormal);
  return magnitude | (codes & 0x8000);
}

/// The largest magnitude among e4m3 codes tells whether one was the NaN.
NEMO_INLINE Bytes64 larger(Bytes64 a, Bytes64 b) {
  return (Bytes64)_mm512_max_epu8((__m512i)a, (__m512i)b);
}
NEMO_INLINE bool has_nan(Bytes64 largest) {
  typedef uint64_t Quads8 __attribute__((vector_size(64)));
  const auto nan = (Quads8)(largest == 0x7f);
  return (nan[0] | nan[1] | nan[2] | nan[3] | nan[4] | nan[5] | nan[6] | nan[7]) != 0;
}

/// Half the columns of packed steps -> [steps][32][2], steps out_stride pairs apart. A NaN is widened as if
/// it was a number, and shows in `largest`.
struct Half {
  int64_t index = 0;  ///< 0 or 1
  uint32_t* out = nullptr;
  int64_t out_stride = 0;
  /// What will be read soon, as many bytes as both halves are made of. A line is asked for now and then: many
  /// at once would keep what is read now waiting.
  const uint8_t* ahead = nullptr;
};

/// 16 columns are 32 bytes: see fp8_place.
NEMO_INLINE void fp8_to_pairs(const uint8_t* packed, int64_t steps, Half half, Bytes64& largest) {
  static constexpr Bytes64Table kPlaces = twice([](int i) { return i / 2 % 8 * 4 + i / 2 / 8 * 2 + i % 2; });
  const Bytes64 first = load(kPlaces), second = first + 32;
  packed += half.index * kBlockColumns;
  for (int64_t step = 0; step < steps; ++step, packed += 2 * kBlockColumns, half.out += half.out_stride) {
    const Bytes64 codes = load_bytes(packed);
    __builtin_prefetch(half.ahead + (2 * step + half.index) * 64, 0, 2);
    largest = larger(largest, codes & 0x7f);
    store_numbers(half.out, numbers_of_e4m3(pick(codes, first)));
    store_numbers(half.out + 16, numbers_of_e4m3(pick(codes, second)));
  }
}

/// What e2m1 codes do to a block scale s, as bits: a number of e2m1 is 1 or 1.5 times a power of two. The
/// last two bits, which no product has, tell the product with 1.5 and one that is not zero.
constexpr uint16_t kThreeHalves = 1, kNotZero = 2;

constexpr uint16_t effect_of_e2m1(int code) {
  constexpr int kPower[8] = {0, -1, 0, 0, 1, 1, 2, 2};
  const int magnitude = code % 8;
  if (magnitude == 0) return 0;
  const int three_halves = magnitude % 2 == 1 && magnitude > 1 ? kThreeHalves : 0;
  return static_cast<uint16_t>((code >= 8 ? 0x8000 : 0) + kPower[magnitude] * 0x80 + three_halves + kNotZero);
}

constexpr NumbersTable effects_of_e2m1() {
  NumbersTable effects = {};
  for (int i = 0; i < 32; ++i) effects.entries[i] = effect_of_e2m1(i % 16);
  return effects;
}

/// Of eight significands, in sixteenths of their last places: how far 1.5 times one lies from it, as bits.
constexpr NumbersTable steps_to_three_halves() {
  constexpr uint16_t kSteps[8] = {64, 72, 80, 84, 80, 76, 72, 68};
  NumbersTable steps = {};
  for (int i = 0; i < 32; ++i) steps.entries[i] = kSteps[i % 8];
  return steps;
}

/// Block scales of 16 columns, twice each, as e2m1 codes need them: less the last two bits of their effects.
struct ScaleBits {
  Numbers once, three_halves;
  __mmask32 not_zero;
};

NEMO_INLINE ScaleBits scale_bits(Numbers codes, Numbers steps) {
  const Numbers once = numbers_of_e4m3(codes);
  return {.once = once - kNotZero,
          .three_halves = once + look_up(steps, once >> 4) - (kNotZero + kThreeHalves),
          .not_zero = _mm512_test_epi16_mask((__m512i)codes, (__m512i)(Numbers{} + 0x7f00))};
}

NEMO_INLINE Numbers product_with_e2m1(const ScaleBits& scale, Numbers effects) {
  const auto test = [&](uint16_t bit) __attribute__((always_inline)) {
    return (__m512i)(Numbers{} + bit);
  };
  const __mmask32 odd = _mm512_test_epi16_mask((__m512i)effects, test(kThreeHalves));
  const __m512i bits = _mm512_mask_blend_epi16(odd, (__m512i)scale.once, (__m512i)scale.three_halves);
  const __mmask32 not_zero = _mm512_mask_test_epi16_mask(scale.not_zero, (__m512i)effects, test(kNotZero));
  return (Numbers)_mm512_maskz_add_epi16(not_zero, bits, (__m512i)effects);
}

/// The same of groups of 8 steps: 64 block scales, then [8][64] pairs of codes; see nvfp4_scale_place.
NEMO_INLINE void nvfp4_to_pairs(const uint8_t* packed, int64_t steps, Half half, Bytes64& largest) {
  constexpr int64_t kPairs = kNvfp4Block / 2;
  const auto shift = static_cast<uint8_t>(half.index * 32);
  static constexpr Bytes64Table kPlaces = twice([](int i) { return i / 2 % 8 * 4 + i / 2 / 8 * 2; });
  const Bytes64 first = load(kPlaces) + shift, second = first + 1;
  static constexpr NumbersTable kEffects = effects_of_e2m1(), kSteps = steps_to_three_halves();
  const Numbers effects = load(kEffects), to_three_halves = load(kSteps);
  constexpr Numbers kNibble = {0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4,
                               0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4};
  for (int64_t step = 0; step < steps; step += kPairs) {
    const Bytes64 codes = load_bytes(packed);
    largest = larger(largest, codes & 0x7f);
    const ScaleBits scale = scale_bits(pick(codes, first), to_three_halves);
    const ScaleBits next_scale = scale_bits(pick(codes, second), to_three_halves);
    packed += kBlockColumns;
    for (int64_t s = 0; s < kPairs; ++s, packed += kBlockColumns, half.out += half.out_stride) {
      const Bytes64 pairs = load_bytes(packed);
      if (half.index == 0 || s == 0) __builtin_prefetch(half.ahead + (half.index * kPairs + s) * 64, 0, 2);
      store_numbers(half.out, product_with_e2m1(scale, look_up(effects, pick(pairs, first) >> kNibble)));
      store_numbers(half.out + 16,
                    product_with_e2m1(next_scale, look_up(effects, pick(pairs, second) >> kNibble)));
    }
    half.ahead += (1 + kPairs) * kBlockColumns;
  }
}

NEMO_INLINE void to_pairs(WeightFormat format, const uint8_t* packed, int64_t steps, Half half,
                          Bytes64& largest) {
  if (format == WeightFormat::kFp8) {
    fp8_to_pairs(packed, steps, half, largest);
  } else {
    nvfp4_to_pairs(packed, steps, half, largest);
  }
}

#endif

}  // namespace
}  // namespace nemo::kernels
