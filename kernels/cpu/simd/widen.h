// Weights as what the matrix product reads. Every e4m3 number and every product of e2m1 with an e4m3 block
// scale is a bfloat16 exactly, so that a product with quantized weights is the product with bfloat16 weights
// to the bit. Pieces of a block that fit the caches are widened, and all tiles of rows run through them:
// memory is read packed, and the product's text and its order of summation stand once.
//
// In vectors of 32 bytes for every instruction set: where columns lie in a packed step (packed_block.h) is
// made for them. Widening takes every lane's bits apart by shifts and masks, never moving them across lanes.
#pragma once

#include "kernels/cpu/simd/table.h"
#include "kernels/cpu/simd/vector.h"

namespace nemo::kernels {
namespace {

#pragma GCC diagnostic ignored \
    "-Wpsabi"  // all of this is inlined: no vector is passed to or returned by a call

typedef uint8_t Codes __attribute__((vector_size(32)));
typedef int16_t Shorts __attribute__((vector_size(32)));
typedef uint16_t Bf16s __attribute__((vector_size(32)));
typedef uint32_t Words8 __attribute__((vector_size(32)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef uint8_t UnalignedCodes __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint16_t Halfword __attribute__((may_alias));
typedef uint32_t UnalignedWords8 __attribute__((vector_size(32), aligned(4), may_alias));

NEMO_INLINE Codes load_codes(const uint8_t* p) {
  return *reinterpret_cast<const UnalignedCodes*>(p);
}

/// The upper and the lower halves of 8 words that each hold two bfloat16.
NEMO_INLINE Floats8 upper(Bf16s pairs) {
  return (Floats8)((Words8)pairs & 0xffff0000u);
}
NEMO_INLINE Floats8 lower(Bf16s pairs) {
  return (Floats8)((Words8)pairs << 16);
}

/// Byte i of every 16 is the entry index[i] (0 to 15) of the table's own 16.
NEMO_INLINE Codes look_up(Codes table, Codes index) {
#if defined(__AVX2__)
  return (Codes)_mm256_shuffle_epi8((__m256i)table, (__m256i)index);
#else
  Codes result;
  for (int i = 0; i < 32; ++i) result[i] = table[i / 16 * 16 + index[i] % 16];
  return result;
#endif
}

/// The 16 bytes again and again.
NEMO_INLINE Codes repeat16(const uint8_t* entries) {
#if defined(__AVX2__)
  return (Codes)_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)));
#else
  Codes table;
  for (int i = 0; i < 32; ++i) table[i] = entries[i % 16];
  return table;
#endif
}

/// Bytes of `low` and `high` as 16-bit lanes: of bytes `begin` to begin + 7 (0 or 8) of every 16.
template <int begin>
NEMO_INLINE Bf16s interleave(Codes low, Codes high) {
#if defined(__AVX2__)
  return (Bf16s)(begin == 0 ? _mm256_unpacklo_epi8((__m256i)low, (__m256i)high)
                            : _mm256_unpackhi_epi8((__m256i)low, (__m256i)high));
#else
  Bf16s lanes;
  for (int i = 0; i < 16; ++i) {
    const int at = i / 8 * 16 + begin + i % 8;
    lanes[i] = static_cast<uint16_t>(low[at] | high[at] << 8);
  }
  return lanes;
#endif
}

/// Two k of eight columns, to where matmul_tile reads them.
template <DType kTo>
NEMO_INLINE void put(uint32_t* out, int64_t step, int64_t column, Floats8 even, Floats8 odd) {
  if (kTo == DType::kFloat32) {
    uint32_t* at = out + 2 * step * kBlockColumns + column;
    *reinterpret_cast<UnalignedWords8*>(at) = (Words8)even;
    *reinterpret_cast<UnalignedWords8*>(at + kBlockColumns) = (Words8)odd;
  } else {
    *reinterpret_cast<UnalignedWords8*>(out + step * kBlockColumns + column) =
        (Words8)even >> 16 | (Words8)odd;
  }
}

/// NaN at every e4m3 code that stands for it.
template <DType kTo>
__attribute__((noinline)) void put_nans(const uint8_t* packed, int64_t steps, uint32_t* out) {
  for (int64_t i = 0; i < steps * kBlockColumns * 2; ++i) {
    if ((packed[i] & 0x7f) != 0x7f) continue;
    const int64_t step = i / (2 * kBlockColumns), place = i / 2 % kBlockColumns, part = i % 2;
    const int64_t column = place / 16 * 16 + place % 2 * 8 + place % 16 / 2;
    if (kTo == DType::kFloat32) {
      out[(2 * step + part) * kBlockColumns + column] = 0x7fc00000u;
    } else {
      reinterpret_cast<Halfword*>(out)[(step * kBlockColumns + column) * 2 + part] = 0x7fc0;
    }
  }
}

/// Steps of 64 pairs of e4m3 codes, 16 columns in 32 bytes. A code's bits, put where a bfloat16 has them, are
/// its number times 2^-120, subnormal numbers too; its NaN would be 480.
template <DType kTo>
void widen_fp8(const uint8_t* packed, int64_t steps, uint32_t* out) {
  constexpr int16_t kMask = static_cast<int16_t>(0x87f0);
  Codes nan = {};
  for (int64_t step = 0; step < steps; ++step) {
    const uint8_t* codes = packed + step * 2 * kBlockColumns;
    __builtin_prefetch(codes + 2 * kBlockColumns * steps);  // the piece after this one
    __builtin_prefetch(codes + 2 * kBlockColumns * steps + 64);
#pragma GCC unroll 4
    for (int64_t column = 0; column < kBlockColumns; column += 16) {
      const Codes pairs = load_codes(codes + 2 * column);
      nan |= (Codes)((pairs & 0x7f) == 0x7f);
      const auto even = (Bf16s)((((Shorts)pairs << 8) >> 4) & kMask),
                 odd = (Bf16s)(((Shorts)pairs >> 4) & kMask);
      put<kTo>(out, step, column, lower(even) * 0x1p120f, lower(odd) * 0x1p120f);
      put<kTo>(out, step, column + 8, upper(even) * 0x1p120f, upper(odd) * 0x1p120f);
    }
  }
  typedef uint64_t Quads __attribute__((vector_size(32)));
  const auto any = (Quads)nan;
  if ((any[0] | any[1] | any[2] | any[3]) != 0) put_nans<kTo>(packed, steps, out);
}

/// bfloat16 of e4m3 codes in the lower bytes; the upper ones are zero. Subnormal numbers come from a table:
/// lower bytes of 0, 2^-9 ... 7 * 2^-9, then upper bytes.
NEMO_INLINE Bf16s bf16_of_e4m3(Bf16s code) {
  constexpr uint8_t kSmall[16] = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x20, 0x40, 0x60,
                                  0x00, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c};
  const Bf16s magnitude = code & 0x7f;
  const Bf16s normal = (magnitude << 4) + ((127 - 7) << 7);
  const Bf16s index = (magnitude | magnitude << 8) + 0x0800;
  const auto small = (Bf16s)look_up(repeat16(kSmall), (Codes)index);
  const Bf16s value = magnitude < 8 ? small : normal;
  const Bf16s nan = (Bf16s)(magnitude == 0x7f) & 0x7fc0;
  return value | nan | (code & 0x80) << 8;
}

/// 32 block scales in the order of their columns.
NEMO_INLINE void widen_scales(const uint8_t* scales, Floats8* out) {
  const auto pairs = (Bf16s)load_codes(scales);
  const Bf16s even = bf16_of_e4m3(pairs & 0xff), odd = bf16_of_e4m3(pairs >> 8);
  out[0] = lower(even);
  out[1] = upper(even);
  out[2] = lower(odd);
  out[3] = upper(odd);
}

/// bfloat16 of 32 e2m1 codes in bytes, 16 in each result.
struct E2m1 {
  Bf16s first, last;
};
NEMO_INLINE E2m1 bf16_of_e2m1(Codes code) {
  constexpr uint8_t kLow[16] = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0,
                                0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0};
  constexpr uint8_t kHigh[16] = {0x00, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40,
                                 0x80, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0};
  const Codes low = look_up(repeat16(kLow), code), high = look_up(repeat16(kHigh), code);
  return {interleave<0>(low, high), interleave<8>(low, high)};
}

/// Groups of 8 steps: 64 block scales, then [8][64] pairs of e2m1 codes, the lower one first; 32 columns in
/// 32 bytes.
template <DType kTo>
void widen_nvfp4(const uint8_t* packed, int64_t steps, uint32_t* out) {
  constexpr int64_t kGroupSteps = kNvfp4Block / 2;
  constexpr int64_t kGroupBytes = kBlockColumns * (1 + kGroupSteps);
  for (int64_t step = 0; step < steps; step += kGroupSteps) {
    const uint8_t* group = packed + step / kGroupSteps * kGroupBytes;
    for (int64_t i = 0; i < kGroupBytes; i += 64)  // the piece after this one
      __builtin_prefetch(group + i + steps / kGroupSteps * kGroupBytes);
    for (int64_t column = 0; column < kBlockColumns; column += 32) {
      Floats8 scale[4];
      widen_scales(group + column, scale);
#pragma GCC unroll 2
      for (int64_t s = 0; s < kGroupSteps; ++s) {
        const Codes pairs = load_codes(group + (1 + s) * kBlockColumns + column);
        const E2m1 even = bf16_of_e2m1(pairs & 15), odd = bf16_of_e2m1(pairs >> 4);
        put<kTo>(out, step + s, column, lower(even.first) * scale[0], lower(odd.first) * scale[0]);
        put<kTo>(out, step + s, column + 8, upper(even.first) * scale[1], upper(odd.first) * scale[1]);
        put<kTo>(out, step + s, column + 16, lower(even.last) * scale[2], lower(odd.last) * scale[2]);
        put<kTo>(out, step + s, column + 24, upper(even.last) * scale[3], upper(odd.last) * scale[3]);
      }
    }
  }
}

template <DType kTo>
void widen_to(WeightFormat format, const void* packed, int64_t steps, void* widened) {
  const auto* codes = static_cast<const uint8_t*>(packed);
  auto* out = static_cast<uint32_t*>(widened);
  if (format == WeightFormat::kFp8) {
    widen_fp8<kTo>(codes, steps, out);
  } else {
    widen_nvfp4<kTo>(codes, steps, out);
  }
}

void widen_weights(WeightFormat format, DType to, const void* packed, int64_t steps, void* widened) {
  if (to == DType::kFloat32) {
    widen_to<DType::kFloat32>(format, packed, steps, widened);
  } else {
    widen_to<DType::kBFloat16>(format, packed, steps, widened);
  }
}

}  // namespace
}  // namespace nemo::kernels
