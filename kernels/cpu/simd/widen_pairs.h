// Quantized weights as pairs of bfloat16, where products are made of such pairs: the same numbers as widen.h
// makes, looked up byte by byte. 64 of FP8 take seven vector operations, of NVFP4 nine: one row's product is
// to wait for memory, which brings some ten weights of FP8 a cycle, or twenty of NVFP4.
#pragma once

#include "kernels/cpu/simd/codes.h"
#include "kernels/cpu/simd/matmul.h"

namespace nemo::kernels {
namespace {

/// k of a group of NVFP4 weights that share their scales, in pairs, and its bytes.
constexpr int64_t kGroupPairs = kNvfp4Block / 2;
constexpr int64_t kGroupBytes = kBlockColumns * (1 + kGroupPairs);

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

/// What vectors are loaded from.
struct Bytes64Table {
  alignas(64) uint8_t entries[64];
};
struct Bytes128Table {
  alignas(64) uint8_t entries[128];
};
NEMO_INLINE Bytes64 load(const Bytes64Table& table) {
  return load_bytes(table.entries);
}

/// Bytes index[0], index[1], ...
NEMO_INLINE Bytes64 pick(Bytes64 bytes, const Bytes64Table& index) {
  return (Bytes64)_mm512_permutexvar_epi8((__m512i)load(index), (__m512i)bytes);
}
/// Of each eight bytes the eight bits from bit offset[i] on.
NEMO_INLINE Bytes64 fields(Bytes64 bytes, const Bytes64Table& offset) {
  return (Bytes64)_mm512_multishift_epi64_epi8((__m512i)load(offset), (__m512i)bytes);
}
/// Entry index[i] % 128.
NEMO_INLINE Bytes64 look_up(const Bytes128Table& table, Bytes64 index) {
  return (Bytes64)_mm512_permutex2var_epi8((__m512i)load_bytes(table.entries), (__m512i)index,
                                           (__m512i)load_bytes(table.entries + 64));
}

/// Of 32 columns.
struct Pairs {
  Numbers first, last;  ///< of 16
};

/// Numbers of their lower and upper bytes. Of every 16 bytes the first eight are pairs of `first`.
NEMO_INLINE Pairs join(Bytes64 lower, Bytes64 upper) {
  return {(Numbers)_mm512_unpacklo_epi8((__m512i)lower, (__m512i)upper),
          (Numbers)_mm512_unpackhi_epi8((__m512i)lower, (__m512i)upper)};
}

/// 128 numbers, lower and upper bytes.
struct NumberTable {
  Bytes128Table lower, upper;

  template <class NumberOf>
  explicit constexpr NumberTable(NumberOf number_of) : lower(), upper() {
    for (int i = 0; i < 128; ++i) {
      lower.entries[i] = static_cast<uint8_t>(number_of(i));
      upper.entries[i] = static_cast<uint8_t>(number_of(i) >> 8);
    }
  }
};

template <class PlaceOf>
constexpr Bytes64Table bytes_at(PlaceOf place_of) {
  Bytes64Table places = {};
  for (int i = 0; i < 64; ++i) places.entries[i] = static_cast<uint8_t>(place_of(i));
  return places;
}

/// integer * 2^exponent as bfloat16, 0 <= integer < 256.
constexpr uint16_t bf16_bits(int integer, int exponent) {
  if (integer == 0) return 0;
  for (; integer < 128; integer *= 2) --exponent;
  return static_cast<uint16_t>((exponent + 7 + 127) << 7 | (integer & 127));
}

constexpr uint16_t number_of_e4m3(int code) {
  const int exponent = code >> 3, fraction = code & 7;
  if (code == 0x7f) return 0x7fc0;
  return exponent == 0 ? bf16_bits(fraction, -9) : bf16_bits(8 + fraction, exponent - 10);
}

/// Where a byte of 32 columns of a step belongs, for `join`: see fp8_place.
constexpr int fp8_byte(int i) {
  const int column = i / 8 % 2 * 16 + i / 16 * 4 + i % 8 / 2;
  return (column / 16 * 16 + column % 8 * 2 + column / 8 % 2) * 2 + i % 2;
}

NEMO_INLINE Pairs widen_fp8(const uint8_t* packed) {
  static constexpr Bytes64Table kBytes = bytes_at(fp8_byte);
  static constexpr NumberTable kNumbers(number_of_e4m3);
  const Bytes64 codes = pick(load_bytes(packed), kBytes);
  return join(look_up(kNumbers.lower, codes), look_up(kNumbers.upper, codes) | (codes & 0x80));
}

/// A number of e2m1 times a block scale from 256 on, whose fraction lies above its code. Without -0: what is
/// taken from its exponent later would not leave it zero.
constexpr uint16_t number_of_product(int index) {
  constexpr int kTwice[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  const int magnitude = kTwice[index & 7], sign = (index & 8) != 0 ? 0x8000 : 0;
  return magnitude == 0 ? uint16_t{0}
                        : static_cast<uint16_t>(sign | bf16_bits((8 + (index >> 4)) * magnitude, 4));
}

/// A block scale as significand and exponent of a normal number, subnormal ones too: the significand below
/// 16, and as bits how far the exponent is below that of 256. Of zero it is so far that zero is left.
struct SplitScale {
  int significand, below;
};
constexpr SplitScale split_e4m3(int code) {
  int exponent = code >> 3, significand = exponent == 0 ? code : 8 + (code & 7);
  if (significand == 0) return {8, 0xffff};
  if (exponent == 0) exponent = 1;
  for (; significand < 8; significand *= 2) --exponent;
  return {significand, (15 - exponent) << 7};
}
constexpr uint16_t fraction_of_scale(int code) {
  return static_cast<uint16_t>((split_e4m3(code).significand - 8) << 4);
}
constexpr uint16_t below_of_scale(int code) {
  return static_cast<uint16_t>(split_e4m3(code).below);
}

/// Where a byte of a step or of a group's scales belongs, so that of every eight the first four are columns
/// of the first half and their fields ready for `join`: see nvfp4_place.
constexpr int nvfp4_byte(int i) {
  const int column = i / 4 % 2 * 32 + i / 8 % 2 * 16 + i / 16 * 4 + i % 4;
  return column / 32 * 32 + column % 8 * 4 + column / 8 % 2 * 2 + column / 16 % 2;
}
NEMO_INLINE Bytes64 in_halves(const uint8_t* packed) {
  static constexpr Bytes64Table kBytes = bytes_at(nvfp4_byte);
  return pick(load_bytes(packed), kBytes);
}

/// What e2m1 codes of 32 columns need to know of their block scales.
struct BlockScales32 {
  Bytes64 choice;  ///< among products: the fraction, and the sign
  Pairs below;     ///< what is taken from the exponent

  /// Of one half of what in_halves gives.
  template <int kHalf>
  static NEMO_INLINE BlockScales32 of(Bytes64 scales) {
    static constexpr Bytes64Table kTwice = bytes_at([](int i) { return 32 * kHalf + i % 8 / 2 * 8; });
    static constexpr NumberTable kFraction(fraction_of_scale), kBelow(below_of_scale);
    const Bytes64 codes = fields(scales, kTwice);
    return {.choice = look_up(kFraction.lower, codes) | ((Bytes64)((Numbers)codes >> 4) & 8),
            .below = join(look_up(kBelow.lower, codes), look_up(kBelow.upper, codes))};
  }
};

/// a - b, not below zero.
NEMO_INLINE Numbers less(Numbers a, Numbers b) {
  return (Numbers)_mm512_subs_epu16((__m512i)a, (__m512i)b);
}

/// One half of what in_halves gives of a step.
template <int kHalf>
NEMO_INLINE Pairs widen_nvfp4(Bytes64 codes, const BlockScales32& scales) {
  static constexpr Bytes64Table kFields = bytes_at([](int i) { return 32 * kHalf + i % 8 * 4; });
  static constexpr NumberTable kProducts(number_of_product);
  const Bytes64 index = (fields(codes, kFields) & 15) ^ scales.choice;
  const Pairs products = join(look_up(kProducts.lower, index), look_up(kProducts.upper, index));
  return {less(products.first, scales.below.first), less(products.last, scales.below.last)};
}

/// The largest magnitude among block scales tells whether one was the NaN.
NEMO_INLINE Bytes64 larger(Bytes64 a, Bytes64 b) {
  return (Bytes64)_mm512_max_epu8((__m512i)a, (__m512i)b);
}
NEMO_INLINE bool has_nan(Bytes64 largest) {
  typedef uint64_t Quads8 __attribute__((vector_size(64)));
  const auto nan = (Quads8)(largest == 0x7f);
  return (nan[0] | nan[1] | nan[2] | nan[3] | nan[4] | nan[5] | nan[6] | nan[7]) != 0;
}

/// Asks for what will be read soon, as many bytes as steps are made of. A line now and then: many at once
/// would keep what is read now waiting.
NEMO_INLINE void ask_for(const uint8_t* line) {
  __builtin_prefetch(line, 0, 2);
}

/// Calls use(step, half, pairs) for the halves [kFirst, kEnd) of the columns of packed steps, one step after
/// another (of NVFP4 groups of 8); `ahead`: what is asked for meanwhile. NaN as a block scale is widened as
/// if it was a number, and shows in `largest`.
template <int kFirst, int kEnd, class Use>
NEMO_INLINE void fp8_to_pairs(const uint8_t* packed, int64_t steps, const uint8_t* ahead, Use use) {
  constexpr int64_t kHalfBytes = kBlockColumns;
  for (int64_t step = 0; step < steps; ++step, packed += 2 * kHalfBytes, ahead += 2 * kHalfBytes) {
    if (kFirst == 0) {
      ask_for(ahead);
      use(step, 0, widen_fp8(packed));
    }
    if (kEnd == 2) {
      ask_for(ahead + kHalfBytes);
      use(step, 1, widen_fp8(packed + kHalfBytes));
    }
  }
}

template <int kFirst, int kEnd, class Use>
NEMO_INLINE void nvfp4_to_pairs(const uint8_t* packed, int64_t steps, const uint8_t* ahead, Bytes64& largest,
                                Use use) {
  for (int64_t group = 0; group < steps; group += kGroupPairs) {
    largest = larger(largest, load_bytes(packed) & 0x7f);
    const Bytes64 scales = in_halves(packed);
    const auto first = BlockScales32::of<0>(scales), last = BlockScales32::of<1>(scales);
    if (kEnd == 2) ask_for(ahead);
    for (int64_t step = group; step < group + kGroupPairs; ++step) {
      packed += kBlockColumns;
      ahead += kBlockColumns;
      const Bytes64 codes = in_halves(packed);
      if (kFirst == 0) {
        ask_for(ahead);
        use(step, 0, widen_nvfp4<0>(codes, first));
      }
      if (kEnd == 2) use(step, 1, widen_nvfp4<1>(codes, last));
    }
    packed += kBlockColumns;
    ahead += kBlockColumns;
  }
}

template <WeightFormat kFormat, int kFirst, int kEnd, class Use>
NEMO_INLINE void to_pairs(const uint8_t* packed, int64_t steps, const uint8_t* ahead, Bytes64& largest,
                          Use use) {
  if constexpr (kFormat == WeightFormat::kFp8) {
    fp8_to_pairs<kFirst, kEnd>(packed, steps, ahead, use);
  } else {
    nvfp4_to_pairs<kFirst, kEnd>(packed, steps, ahead, largest, use);
  }
}

#endif

}  // namespace
}  // namespace nemo::kernels
