// Vectors of 32 bytes of codes, for every instruction set: where columns lie in a packed step
// (packed_block.h) is made for them. Widening takes every lane's bits apart and never moves them across
// lanes.
#pragma once

#include "kernels/cpu/simd/vector.h"

namespace nemo::kernels {
namespace {

#pragma GCC diagnostic ignored \
    "-Wpsabi"  // all of this is inlined: no vector is passed to or returned by a call

typedef uint8_t Codes __attribute__((vector_size(32)));
typedef int16_t Shorts __attribute__((vector_size(32)));
typedef int32_t Ints8 __attribute__((vector_size(32)));
typedef uint32_t Words8 __attribute__((vector_size(32)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef uint8_t UnalignedCodes __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint32_t UnalignedWords8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float UnalignedFloats8 __attribute__((vector_size(32), aligned(4), may_alias));

NEMO_INLINE Codes load_codes(const uint8_t* p) {
  return *reinterpret_cast<const UnalignedCodes*>(p);
}

NEMO_INLINE Floats8 load8(const float* p) {
  return *reinterpret_cast<const UnalignedFloats8*>(p);
}
NEMO_INLINE void store8(float* p, Floats8 v) {
  *reinterpret_cast<UnalignedFloats8*>(p) = v;
}

/// The upper and the lower halves of 8 words that each hold two bfloat16.
NEMO_INLINE Floats8 upper(Shorts pairs) {
  return (Floats8)((Words8)pairs & 0xffff0000u);
}
NEMO_INLINE Floats8 lower(Shorts pairs) {
  return (Floats8)((Words8)pairs << 16);
}

NEMO_INLINE Floats8 multiply_add(float a, Floats8 b, Floats8 c) {
#if defined(__AVX2__)
  return _mm256_fmadd_ps(_mm256_set1_ps(a), b, c);
#else
  return a * b + c;
#endif
}

#if defined(__AVX512F__)  // of AVX2 this is a whole vector, and elsewhere two
NEMO_INLINE void keep_in_register(Floats8& sum) {
  asm("" : "+v"(sum));
}
#elif !defined(__AVX2__)
NEMO_INLINE void keep_in_register(Floats8&) {}
#endif

NEMO_INLINE Codes larger(Codes a, Codes b) {
#if defined(__AVX2__)
  return (Codes)_mm256_max_epu8((__m256i)a, (__m256i)b);
#else
  return a > b ? a : b;
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

/// Byte i is the entry index[i] (0 to 15) of a table that repeat16 made.
NEMO_INLINE Codes look_up(Codes table, Codes index) {
#if defined(__AVX2__)
  return (Codes)_mm256_shuffle_epi8((__m256i)table, (__m256i)index);
#else
  Codes result;
  for (int i = 0; i < 32; ++i) result[i] = table[index[i] % 16];
  return result;
#endif
}

/// `a` with the sign of `sign`; zero where that is zero.
NEMO_INLINE Shorts with_sign(Shorts a, Shorts sign) {
#if defined(__AVX2__)
  return (Shorts)_mm256_sign_epi16((__m256i)a, (__m256i)sign);
#else
  return sign > 0 ? a : sign < 0 ? -a : Shorts{};
#endif
}

/// Unsigned times signed bytes, two products added in each lane: with a zero in every pair of `a` one of
/// them.
NEMO_INLINE Shorts multiply_bytes(Codes a, Codes b) {
#if defined(__AVX2__)
  return (Shorts)_mm256_maddubs_epi16((__m256i)a, (__m256i)b);
#else
  Shorts sums;
  for (int i = 0; i < 16; ++i)
    sums[i] = static_cast<int16_t>(a[2 * i] * static_cast<int8_t>(b[2 * i]) +
                                   a[2 * i + 1] * static_cast<int8_t>(b[2 * i + 1]));
  return sums;
#endif
}

/// The same of signed 16 bits.
NEMO_INLINE Ints8 multiply_shorts(Shorts a, Shorts b) {
#if defined(__AVX2__)
  return (Ints8)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
  Ints8 sums;
  for (int i = 0; i < 8; ++i) sums[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sums;
#endif
}

NEMO_INLINE Floats8 to_floats(Ints8 v) {
  return __builtin_convertvector(v, Floats8);
}

}  // namespace
}  // namespace nemo::kernels
