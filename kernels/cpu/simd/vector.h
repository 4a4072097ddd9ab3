// The vector of one instruction set. The bodies in kernels/cpu/simd/*.h are written once over it and compiled
// once for each isa_*.cpp. Everything in them lies in the unnamed namespace and calls no inline function of a
// library: a shared inline function compiled for AVX-512 could be the copy that the linker keeps for all, and
// crash an older machine.
//
// Own code on GCC vector extensions and not Highway: what we need beyond + - * is this one page, and the
// matrix product needs vdpbf16ps by name because its order of rounding is part of our contract.
#pragma once

#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace nemo::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;  // what every compiler lowers to something: SSE2 on x86-64
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));

typedef float UnalignedFloats __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint32_t UnalignedWords __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint16_t UnalignedHalves __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

#define NEMO_INLINE inline __attribute__((always_inline))

NEMO_INLINE Floats broadcast(float x) {
  return x - Floats{};
}
NEMO_INLINE Floats load(const float* p) {
  return *reinterpret_cast<const UnalignedFloats*>(p);
}
NEMO_INLINE void store(float* p, Floats v) {
  *reinterpret_cast<UnalignedFloats*>(p) = v;
}
NEMO_INLINE Words bits_of(Floats v) {
  return reinterpret_cast<Words>(v);
}
NEMO_INLINE Floats floats_of(Words v) {
  return reinterpret_cast<Floats>(v);
}
/// By name: for constants GCC 12 takes a comparison and a choice.
NEMO_INLINE Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}  // b if either is NaN
NEMO_INLINE Floats smaller(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}  // b if either is NaN

/// Nothing for the machine. For the compiler a sum that is changed in place: GCC 12 otherwise writes products
/// over it, moves it about and runs out of registers.
NEMO_INLINE void keep_in_register(Floats& sum) {
#if defined(__AVX512F__)
  asm("" : "+v"(sum));
#else
  asm("" : "+x"(sum));
#endif
}

NEMO_INLINE Ints lane_index() {
  Ints index;
  for (int i = 0; i < kLanes; ++i) index[i] = i;
  return index;
}

/// a * b + c, fused where the instruction set has it.
NEMO_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

/// The first n lanes, the others zero; touches no memory beyond them.
NEMO_INLINE Floats load_first(const float* p, int64_t n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#elif defined(__AVX2__)
  return _mm256_maskload_ps(p, reinterpret_cast<__m256i>(lane_index() < static_cast<int32_t>(n)));
#else
  Floats v = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

NEMO_INLINE void store_first(float* p, int64_t n, Floats v) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), v);
#elif defined(__AVX2__)
  _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(lane_index() < static_cast<int32_t>(n)), v);
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}

NEMO_INLINE Floats widen(Halves v) {
  return floats_of(__builtin_convertvector(v, Words) << 16);
}
NEMO_INLINE Halves narrow(Floats rounded) {
  return __builtin_convertvector(bits_of(rounded) >> 16, Halves);
}
NEMO_INLINE Floats load_bf16(const uint16_t* p) {
  return widen(*reinterpret_cast<const UnalignedHalves*>(p));
}
NEMO_INLINE void store_halves(uint16_t* p, Halves v) {
  *reinterpret_cast<UnalignedHalves*>(p) = v;
}
NEMO_INLINE void store_bf16(uint16_t* p, Floats rounded) {
  store_halves(p, narrow(rounded));
}

NEMO_INLINE Floats load_first_bf16(const uint16_t* p, int64_t n) {
  Halves v = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return widen(v);
}

NEMO_INLINE void store_first_bf16(uint16_t* p, int64_t n, Floats rounded) {
  const Halves v = narrow(rounded);
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

/// Nearest bfloat16, ties to even, NaN to a quiet NaN: the bits of bf16::from_float. Not vcvtneps2bf16, which
/// takes subnormal numbers for zero.
NEMO_INLINE Floats round_to_bf16(Floats v) {
  const Words word = bits_of(v);
  const Words rounded = (word + 0x7fffu + ((word >> 16) & 1u)) & 0xffff0000u;
  const Words quiet = (word & 0xffff0000u) | 0x400000u;
  return floats_of((word & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

/// The nearest bfloat16 as a factor of a product: where the machine multiplies them it takes subnormal
/// numbers for zero, and so may this.
NEMO_INLINE Halves bf16_factor(Floats v) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh(v);
#else
  return narrow(round_to_bf16(v));
#endif
}

/// Halves are folded upon each other until one lane is left: one fixed tree.
template <class Combine>
NEMO_INLINE float fold_lanes(Floats v, Combine combine) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
  const __m256 eight = combine(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                               __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#else
  const __m256 eight = v;
#endif
  __m128 four = combine(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = combine(four, _mm_movehl_ps(four, four));
  return combine(four, _mm_movehdup_ps(four))[0];
#else
  for (int width = kLanes / 2; width > 0; width /= 2) {
    Floats upper = v;
    for (int i = 0; i < width; ++i) upper[i] = v[i + width];
    v = combine(v, upper);
  }
  return v[0];
#endif
}

NEMO_INLINE float sum_of_lanes(Floats v) {
  return fold_lanes(
      v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}
/// Of lanes that are not NaN.
NEMO_INLINE float largest_lane(Floats v) {
  return fold_lanes(
      v, [](auto a, auto b) __attribute__((always_inline)) { return a > b ? a : b; });
}

/// Calls body(column, n) for every vector of a row; n < kLanes for the last one only. An element's bits
/// depend on its value alone, never on its lane or on being in the tail, because both go through the same
/// vector code.
template <class Body>
NEMO_INLINE void for_each_vector(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, int64_t{kLanes});
  if (i < count) body(i, count - i);
}

NEMO_INLINE Floats load_some(const float* p, int64_t n) {
  return n == kLanes ? load(p) : load_first(p, n);
}
NEMO_INLINE void store_some(float* p, int64_t n, Floats v) {
  if (n == kLanes) {
    store(p, v);
  } else {
    store_first(p, n, v);
  }
}

}  // namespace
}  // namespace nemo::kernels
