// Quantized weights as what the matrix product reads. Every e4m3 number and every product of e2m1 with an
// e4m3 block scale is a bfloat16 exactly, so that a product with quantized weights is the product with
// bfloat16 weights to the bit. Pieces of a block small enough for L2 are widened, and all tiles of rows run
// through them: memory is read packed, and the product's text and its order of summation stand once.
#pragma once

#include "kernels/cpu/simd/table.h"
#include "kernels/cpu/simd/vector.h"

namespace nemo::kernels {
namespace {

typedef uint8_t Bytes __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Pairs __attribute__((vector_size(kLanes * 4)));  // two bfloat16, or two codes, a column
typedef uint16_t UnalignedPairs __attribute__((vector_size(kLanes * 4), aligned(2), may_alias));

/// Byte i of every 16 is the table's entry index[i] (0 to 15; others give anything).
NEMO_INLINE Bytes look_up(Bytes table, Bytes index) {
#if defined(__AVX512BW__)
  return (Bytes)_mm512_shuffle_epi8((__m512i)table, (__m512i)index);
#elif defined(__AVX2__)
  return (Bytes)_mm256_shuffle_epi8((__m256i)table, (__m256i)index);
#else
  Bytes result;
  for (int i = 0; i < kLanes * 4; ++i) result[i] = table[index[i] % 16];
  return result;
#endif
}

/// The 16 bytes again and again.
NEMO_INLINE Bytes repeat16(const uint8_t* entries) {
#if defined(__AVX512F__)
  return (Bytes)_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)));
#elif defined(__AVX2__)
  return (Bytes)_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)));
#else
  Bytes table;
  for (int i = 0; i < kLanes * 4; ++i) table[i] = entries[i];
  return table;
#endif
}

/// Two codes a column, each widened to 16 bits. By name: GCC 12 widens bytes one by one.
NEMO_INLINE Pairs load_code_pairs(const uint8_t* p) {
#if defined(__AVX512BW__)
  return (Pairs)_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  return (Pairs)_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Pairs codes;
  for (int i = 0; i < kLanes * 2; ++i) codes[i] = p[i];
  return codes;
#endif
}

/// One byte a column, widened to 32 bits.
NEMO_INLINE Words load_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  Words words;
  for (int i = 0; i < kLanes; ++i) words[i] = p[i];
  return words;
#endif
}

/// bfloat16 bits of e4m3 codes. Subnormal numbers come from a table: lower bytes of 0, 2^-9 ... 7 * 2^-9,
/// then upper bytes.
NEMO_INLINE Pairs bf16_of_e4m3(Pairs code) {
  constexpr uint8_t kSmall[16] = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x20, 0x40, 0x60,
                                  0x00, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c};
  const Pairs magnitude = code & 0x7f;
  const Pairs normal = (magnitude << 4) + ((127 - 7) << 7);
  const Pairs index = (magnitude | magnitude << 8) + 0x0800;
  const Pairs small = (Pairs)look_up(repeat16(kSmall), (Bytes)index);
  const Pairs value = magnitude < 8 ? small : normal;
  const Pairs nan = (Pairs)(magnitude == 0x7f) & 0x7fc0;
  return value | nan | (code & 0x80) << 8;
}

/// Floats of the e2m1 codes in the lowest four bits of each lane; other bits are ignored.
NEMO_INLINE Floats float_of_e2m1(Words code) {
#if defined(__AVX512F__)
  const Floats values = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                         -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  return _mm512_permutexvar_ps((__m512i)code, values);
#elif defined(__AVX2__)
  const Floats values = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  const Floats magnitude = _mm256_permutevar8x32_ps(values, (__m256i)code);
  return floats_of(bits_of(magnitude) | (code << 28 & 0x80000000u));
#else
  constexpr float kValues[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  Floats magnitude;
  for (int i = 0; i < kLanes; ++i) magnitude[i] = kValues[code[i] & 7u];
  return floats_of(bits_of(magnitude) | (code << 28 & 0x80000000u));
#endif
}

/// Steps [2 k][64 columns] of e4m3 codes -> words.
void widen_fp8(const uint8_t* packed, int64_t steps, uint32_t* words) {
  for (int64_t i = 0; i < steps * kBlockColumns; i += kLanes) {
    __builtin_prefetch(packed + 2 * (i + steps * kBlockColumns), 0, 2);  // the piece after this one
    *reinterpret_cast<UnalignedPairs*>(words + i) = bf16_of_e4m3(load_code_pairs(packed + 2 * i));
  }
}

/// Groups of 8 steps: 64 block scales, then [8][64] pairs of e2m1 codes, the lower one first -> words.
void widen_nvfp4(const uint8_t* packed, int64_t steps, uint32_t* words) {
  constexpr int64_t kGroupSteps = kNvfp4Block / 2;
  constexpr int64_t kGroupBytes = kBlockColumns * (1 + kGroupSteps);
  for (int64_t group = 0; group * kGroupSteps < steps; ++group) {
    const uint8_t* scales = packed + group * kGroupBytes;
    const uint8_t* codes = scales + kBlockColumns;
    uint32_t* out = words + group * kGroupSteps * kBlockColumns;
    for (int64_t i = 0; i < kGroupBytes; i += 64)
      __builtin_prefetch(scales + i + steps / kGroupSteps * kGroupBytes, 0, 2);
    for (int64_t column = 0; column < kBlockColumns; column += kLanes) {
      const Floats scale = floats_of((Words)bf16_of_e4m3((Pairs)load_bytes(scales + column)) << 16);
#pragma GCC unroll 8
      for (int64_t step = 0; step < kGroupSteps; ++step) {
        const Words pair = load_bytes(codes + step * kBlockColumns + column);
        const Words even = bits_of(float_of_e2m1(pair) * scale);
        const Words odd = bits_of(float_of_e2m1(pair >> 4) * scale);
        *reinterpret_cast<UnalignedWords*>(out + step * kBlockColumns + column) =
            even >> 16 | (odd & 0xffff0000u);
      }
    }
  }
}

/// Words [steps][64] -> floats [2 steps][64], in place: from the last step on, no step is
/// overwritten before it is read.
void split_words(int64_t steps, uint32_t* words) {
  for (int64_t step = steps - 1; step >= 0; --step) {
    for (int64_t column = 0; column < kBlockColumns; column += kLanes) {
      const Words pair = *reinterpret_cast<const UnalignedWords*>(words + step * kBlockColumns + column);
      uint32_t* out = words + 2 * step * kBlockColumns + column;
      *reinterpret_cast<UnalignedWords*>(out + kBlockColumns) = pair & 0xffff0000u;
      *reinterpret_cast<UnalignedWords*>(out) = pair << 16;
    }
  }
}

void widen_weights(WeightFormat format, DType dtype, const void* packed, int64_t steps, void* widened) {
  auto* words = static_cast<uint32_t*>(widened);
  if (format == WeightFormat::kFp8) {
    widen_fp8(static_cast<const uint8_t*>(packed), steps, words);
  } else {
    widen_nvfp4(static_cast<const uint8_t*>(packed), steps, words);
  }
  if (dtype == DType::kFloat32) split_words(steps, words);
}

}  // namespace
}  // namespace nemo::kernels
