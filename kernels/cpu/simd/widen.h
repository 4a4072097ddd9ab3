// Weights as what the matrix product reads. Every e4m3 number and every product of e2m1 with an e4m3 block
// scale is a bfloat16 exactly, so that a product with quantized weights is the product with bfloat16 weights
// to the bit. One tile of rows takes them from registers (matmul_quantized.h). For several tiles, pieces of a
// block that fit the caches are widened, and all of them run through these.
#pragma once

#include "kernels/cpu/simd/codes.h"
#include "kernels/cpu/simd/matmul.h"
#include "kernels/cpu/simd/widen_pairs.h"

namespace nemo::kernels {
namespace {

typedef uint16_t Halfword __attribute__((may_alias));

/// One k of 16 columns of a block, or two.
struct Weights16 {
  Floats8 first, last;
};
struct Weights16x2 {
  Weights16 even, odd;
};

/// 16 pairs of e4m3 codes. A code's bits, put where a bfloat16 has them, are its number times 2^-120,
/// subnormal numbers too; its NaN would be 480.
NEMO_INLINE Weights16x2 widen_e4m3(Codes pairs) {
  constexpr int16_t kMask = static_cast<int16_t>(0x87f0);
  const Shorts even = (((Shorts)pairs << 8) >> 4) & kMask, odd = ((Shorts)pairs >> 4) & kMask;
  return {.even = {lower(even) * 0x1p120f, upper(even) * 0x1p120f},
          .odd = {lower(odd) * 0x1p120f, upper(odd) * 0x1p120f}};
}

/// Remembers in `largest` whether a code was the NaN: none has a larger magnitude.
NEMO_INLINE void note_nans(Codes codes, Codes& largest) {
  largest = larger(largest, codes & 0x7f);
}
NEMO_INLINE bool noted_nan(Codes largest) {
  typedef uint64_t Quads __attribute__((vector_size(32)));
  const auto nan = (Quads)(largest == 0x7f);
  return (nan[0] | nan[1] | nan[2] | nan[3]) != 0;
}

/// Block scales of 16 columns, as integers of 2^-9: below 16, times a power of two up to 2^14.
struct BlockScales {
  Codes significand;  ///< beside zeros, in the bytes of these columns
  Shorts power[2];    ///< of eight columns each, beside zeros, with the scale's sign
};

/// Of the first (half 0) or the last 16 of 32.
NEMO_INLINE BlockScales split_scales(Codes codes, int half) {
  constexpr uint8_t kLeading[16] = {0, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8};
  constexpr uint8_t kLow[16] = {1, 1, 2, 4, 8, 16, 32, 64, 128};
  constexpr uint8_t kHigh[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64};
  const Shorts code = (Shorts)codes >> 8 * half & 0xff;
  const auto exponent = (Codes)(code >> 3 & 15);
  const auto significand = (Shorts)look_up(repeat16(kLeading), exponent) | (code & 7);
  const auto low = (Shorts)look_up(repeat16(kLow), exponent) & 0xff;
  const auto high = (Shorts)look_up(repeat16(kHigh), exponent) << 8;
  const auto power = (Words8)with_sign(low | high, code << 8);
  return {.significand = (Codes)(significand << 8 * half),
          .power = {(Shorts)(power & 0xffffu), (Shorts)(power & 0xffff0000u)}};
}

/// What widen_e2m1 gives weights in units of. Where x is a bfloat16 that is read in float32, x is multiplied
/// by it, not they: that is a float exactly, the smallest subnormal number's too.
constexpr float kE2m1Unit = 0x1p-10f;

float x_unit(WeightFormat format, DType dtype) {
  const bool read_in_float32 = dtype == DType::kBFloat16 && widened_type(dtype) == DType::kFloat32;
  return format == WeightFormat::kNvfp4 && read_in_float32 ? kE2m1Unit : 1.0f;
}

/// One k of those 16 columns among 32 e2m1 codes. Twice the numbers are integers, and so are the products
/// with scales, of 22 bits: multipliers of integers leave the unit of FMA to the product.
NEMO_INLINE Weights16 widen_e2m1(Codes codes, const BlockScales& scales) {
  constexpr uint8_t kTwice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, 255, 254, 253, 252, 250, 248, 244};
  const Shorts products = multiply_bytes(scales.significand, look_up(repeat16(kTwice), codes));
  return {to_floats(multiply_shorts(products, scales.power[0])),
          to_floats(multiply_shorts(products, scales.power[1]))};
}

/// The pairs' lower codes are the even k.
NEMO_INLINE Codes even_codes(Codes pairs) {
  return pairs & 15;
}
NEMO_INLINE Codes odd_codes(Codes pairs) {
  return (Codes)((Shorts)pairs >> 4) & 15;
}

/// Two k of eight columns, to where matmul_tile reads them.
NEMO_INLINE void put(uint32_t* out, int64_t step, int64_t column, Floats8 even, Floats8 odd) {
  uint32_t* at = out + 2 * step * kBlockColumns + column;
  *reinterpret_cast<UnalignedWords8*>(at) = (Words8)even;
  *reinterpret_cast<UnalignedWords8*>(at + kBlockColumns) = (Words8)odd;
}

/// The column of a byte of a step, or of a group's scales: see packed_block.h.
NEMO_INLINE int64_t fp8_column(int64_t byte) {
  const int64_t place = byte / 2 % kBlockColumns;
  return place / 16 * 16 + place % 2 * 8 + place % 16 / 2;
}
NEMO_INLINE int64_t nvfp4_column(int64_t byte) {
  return byte / 32 * 32 + byte % 2 * 16 + byte / 2 % 2 * 8 + byte % 32 / 4;
}

template <DType kTo>
NEMO_INLINE void put_nan(uint32_t* out, int64_t k, int64_t column) {
  if (kTo == DType::kFloat32) {
    out[k * kBlockColumns + column] = 0x7fc00000u;
  } else {
    reinterpret_cast<Halfword*>(out)[(k / 2 * kBlockColumns + column) * 2 + k % 2] = 0x7fc0;
  }
}

/// NaN at every e4m3 code that stands for it.
template <DType kTo>
__attribute__((noinline)) void put_nans_of_fp8(const uint8_t* packed, int64_t steps, uint32_t* out) {
  for (int64_t i = 0; i < steps * kBlockColumns * 2; ++i)
    if ((packed[i] & 0x7f) == 0x7f) put_nan<kTo>(out, i / (2 * kBlockColumns) * 2 + i % 2, fp8_column(i));
}

/// NaN at all weights whose block scale is.
template <DType kTo>
__attribute__((noinline)) void put_nans_of_nvfp4(const uint8_t* packed, int64_t steps, uint32_t* out) {
  for (int64_t k = 0; k < 2 * steps; k += kNvfp4Block, packed += kGroupBytes)
    for (int64_t i = 0; i < kBlockColumns * kNvfp4Block; ++i)
      if ((packed[i % kBlockColumns] & 0x7f) == 0x7f)
        put_nan<kTo>(out, k + i / kBlockColumns, nvfp4_column(i % kBlockColumns));
}

/// Steps of 64 pairs of e4m3 codes, 16 columns in 32 bytes.
void fp8_to_floats(const uint8_t* packed, int64_t steps, uint32_t* out) {
  Codes largest = {};
  for (int64_t step = 0; step < steps; ++step) {
    const uint8_t* codes = packed + step * 2 * kBlockColumns;
#pragma GCC unroll 4
    for (int64_t column = 0; column < kBlockColumns; column += 16) {
      const Codes pairs = load_codes(codes + 2 * column);
      note_nans(pairs, largest);
      const Weights16x2 weights = widen_e4m3(pairs);
      put(out, step, column, weights.even.first, weights.odd.first);
      put(out, step, column + 8, weights.even.last, weights.odd.last);
    }
  }
  if (noted_nan(largest)) put_nans_of_fp8<DType::kFloat32>(packed, steps, out);
}

/// Groups of 8 steps: 64 block scales, then [8][64] pairs of e2m1 codes, the lower one first; 32 columns in
/// 32 bytes. kOwnUnit: they are multiplied by their unit, for an x that is not.
template <bool kOwnUnit>
void nvfp4_to_floats(const uint8_t* packed, int64_t steps, uint32_t* out) {
  constexpr float kUnit = kOwnUnit ? kE2m1Unit : 1.0f;
  Codes largest = {};
  for (int64_t step = 0; step < steps; step += kGroupPairs) {
    const uint8_t* group = packed + step / kGroupPairs * kGroupBytes;
    for (int64_t column = 0; column < kBlockColumns; column += 32) {
      const Codes codes = load_codes(group + column);
      note_nans(codes, largest);
      const BlockScales scales[2] = {split_scales(codes, 0), split_scales(codes, 1)};
      for (int64_t s = 0; s < kGroupPairs; ++s) {
        const Codes pairs = load_codes(group + (1 + s) * kBlockColumns + column);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const Weights16 even = widen_e2m1(even_codes(pairs), scales[half]);
          const Weights16 odd = widen_e2m1(odd_codes(pairs), scales[half]);
          const int64_t to = column + 16 * half;
          put(out, step + s, to, even.first * kUnit, odd.first * kUnit);
          put(out, step + s, to + 8, even.last * kUnit, odd.last * kUnit);
        }
      }
    }
  }
  if (noted_nan(largest)) put_nans_of_nvfp4<DType::kFloat32>(packed, steps, out);
}

void widen_to_floats(WeightFormat format, DType dtype, const uint8_t* packed, int64_t steps, uint32_t* out) {
  if (format == WeightFormat::kFp8) {
    fp8_to_floats(packed, steps, out);
  } else if (x_unit(format, dtype) == 1.0f) {
    nvfp4_to_floats<true>(packed, steps, out);
  } else {
    nvfp4_to_floats<false>(packed, steps, out);
  }
}

#if defined(__AVX512BF16__)
template <WeightFormat kFormat>
void widen_to_pairs(const uint8_t* packed, int64_t steps, uint32_t* out) {
  Bytes64 largest = {};
  // Who wants pieces widened has asked for them before: nothing lies ahead but these themselves.
  to_pairs<kFormat, 0, 2>(packed, steps, packed, largest, [out](int64_t step, int half, Pairs pairs) {
    uint32_t* at = out + step * kBlockColumns + half * kBlockColumns / 2;
    store_numbers(at, pairs.first);
    store_numbers(at + 16, pairs.last);
  });
  if (has_nan(largest)) put_nans_of_nvfp4<DType::kBFloat16>(packed, steps, out);
}
#endif

void widen_weights(WeightFormat format, DType dtype, const void* packed, int64_t steps, void* widened) {
  const auto* codes = static_cast<const uint8_t*>(packed);
  auto* out = static_cast<uint32_t*>(widened);
#if defined(__AVX512BF16__)
  if (widened_type(dtype) == DType::kBFloat16)
    return (format == WeightFormat::kFp8 ? widen_to_pairs<WeightFormat::kFp8>
                                         : widen_to_pairs<WeightFormat::kNvfp4>)(codes, steps, out);
#endif
  widen_to_floats(format, dtype, codes, steps, out);
}

}  // namespace
}  // namespace nemo::kernels
