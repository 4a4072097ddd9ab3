// AVX-512 and AMX for machines with AVX2 only, so that the bodies in kernels/cpu/simd are tested with 16
// lanes, with vdpbf16ps and with tile registers on any machine: included ahead of isa_avx512.cpp,
// isa_avx512bf16.cpp, isa_amx.cpp and context.cpp (see CMakeLists.txt here). GCC lowers vectors of 64 bytes
// to pairs of 32; what the bodies call by name is here. What it cannot test is the compiler's AVX-512 code.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <sys/syscall.h>

#define __builtin_cpu_supports(feature) __builtin_cpu_supports("avx2")
#undef SYS_arch_prctl
#define SYS_arch_prctl SYS_sched_yield  // succeeds as the permission to use tiles does

#if defined(__AVX2__)

#define __AVX512F__ 1
#define asm(...)  // registers of 64 bytes that are not there

namespace nemo::emulated {
namespace {

typedef uint32_t Words16 __attribute__((vector_size(64)));
typedef float UnalignedFloats16 __attribute__((vector_size(64), aligned(4), may_alias));

#define NEMO_EMULATED inline __attribute__((always_inline))

template <class Function>
NEMO_EMULATED __m512 by_halves(__m512 a, __m512 b, __m512 c, Function function) {
  const __m256 low = function(__builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7),
                              __builtin_shufflevector(b, b, 0, 1, 2, 3, 4, 5, 6, 7),
                              __builtin_shufflevector(c, c, 0, 1, 2, 3, 4, 5, 6, 7));
  const __m256 high = function(__builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15),
                               __builtin_shufflevector(b, b, 8, 9, 10, 11, 12, 13, 14, 15),
                               __builtin_shufflevector(c, c, 8, 9, 10, 11, 12, 13, 14, 15));
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

NEMO_EMULATED __m512 fmadd(__m512 a, __m512 b, __m512 c) {
  return by_halves(a, b, c, [](__m256 x, __m256 y, __m256 z) { return _mm256_fmadd_ps(x, y, z); });
}
NEMO_EMULATED __m512 larger(__m512 a, __m512 b) {
  return by_halves(a, b, b, [](__m256 x, __m256 y, __m256) { return _mm256_max_ps(x, y); });
}
NEMO_EMULATED __m512 smaller(__m512 a, __m512 b) {
  return by_halves(a, b, b, [](__m256 x, __m256 y, __m256) { return _mm256_min_ps(x, y); });
}

NEMO_EMULATED __m512 load_masked(__mmask16 mask, const float* from) {
  __m512 lanes = {};
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) lanes[i] = from[i];
  return lanes;
}
NEMO_EMULATED void store_masked(float* to, __mmask16 mask, __m512 lanes) {
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) to[i] = lanes[i];
}

/// vdpbf16ps takes subnormal numbers for zero, and makes none.
NEMO_EMULATED __m512 without_subnormal(__m512 x) {
  const auto bits = (Words16)x;
  return (__m512)((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
}
/// The odd product is added first, then the even one (Intel's instruction set reference, VDPBF16PS).
NEMO_EMULATED __m512 dot_bf16(__m512 sum, __m512bh a, __m512bh b) {
  const auto pairs_a = (Words16)a, pairs_b = (Words16)b;
  sum = fmadd(without_subnormal((__m512)(pairs_a & 0xffff0000u)),
              without_subnormal((__m512)(pairs_b & 0xffff0000u)), without_subnormal(sum));
  sum = fmadd(without_subnormal((__m512)(pairs_a << 16)), without_subnormal((__m512)(pairs_b << 16)),
              without_subnormal(sum));
  return without_subnormal(sum);
}

/// vcvtneps2bf16.
typedef uint16_t Halves16 __attribute__((vector_size(32)));
NEMO_EMULATED Halves16 nearest_bf16(__m512 x) {
  const auto word = (Words16)without_subnormal(x);
  const Words16 rounded = word + 0x7fffu + (word >> 16 & 1u);
  const Words16 kept = (word & 0x7fffffffu) > 0x7f800000u ? word | 0x400000u : rounded;
  return __builtin_convertvector(kept >> 16, Halves16);
}

/// What is done to bytes where quantized weights become pairs of bfloat16.
typedef uint16_t Halves32 __attribute__((vector_size(64)));
typedef uint8_t Bytes64 __attribute__((vector_size(64)));

inline __m512i look_up_bytes(__m512i index, __m512i table) {
  return (__m512i)__builtin_shuffle((Bytes64)table, (Bytes64)index & 63);
}
inline __m512i look_up_128_bytes(__m512i first, __m512i index, __m512i last) {
  return (__m512i)__builtin_shuffle((Bytes64)first, (Bytes64)last, (Bytes64)index & 127);
}
/// Of each eight bytes the eight bits from any offset on, round and round.
inline __m512i shifted_fields(__m512i offsets, __m512i bytes) {
  Bytes64 fields = {};
  for (int i = 0; i < 64; ++i) {
    const auto quad = static_cast<uint64_t>(bytes[i / 8]);
    const int offset = ((Bytes64)offsets)[i] & 63;
    fields[i] = static_cast<uint8_t>(quad >> offset | quad << (-offset & 63));
  }
  return (__m512i)fields;
}
/// In each 16 bytes the first or last eight of `a` beside those of `b`.
inline __m512i interleaved(__m512i a, __m512i b, int begin) {
  Bytes64 both = {};
  for (int i = 0; i < 64; ++i) both[i] = ((Bytes64)(i % 2 == 0 ? a : b))[i / 16 * 16 + begin + i % 16 / 2];
  return (__m512i)both;
}
inline __m512i minus_not_below_zero(__m512i a, __m512i b) {
  const auto x = (Halves32)a, y = (Halves32)b;
  return (__m512i)(x > y ? x - y : Halves32{});
}
inline __m512i larger_bytes(__m512i a, __m512i b) {
  return (__m512i)((Bytes64)a > (Bytes64)b ? (Bytes64)a : (Bytes64)b);
}

/// Tile registers of 16 rows of 64 bytes, the one shape that we use. As on the machine, a thread that has not
/// configured them dies of their use.
struct Tile {
  Words16 rows[16];
};
thread_local Tile registers[8];
thread_local bool configured = false;

inline void load_config(const void*) {
  configured = true;
}
inline void release_tiles() {
  configured = false;
}
inline Tile& tile_register(int tile) {
  if (!configured) __builtin_trap();
  return registers[tile];
}
inline void load_tile(int tile, const void* from, int64_t stride) {
  for (int r = 0; r < 16; ++r)
    __builtin_memcpy(&tile_register(tile).rows[r], static_cast<const char*>(from) + r * stride, 64);
}
inline void store_tile(int tile, void* to, int64_t stride) {
  for (int r = 0; r < 16; ++r)
    __builtin_memcpy(static_cast<char*>(to) + r * stride, &tile_register(tile).rows[r], 64);
}

/// The even products are summed in rising order, the odd ones too, the two sums are added, and that to the
/// sum (Intel's instruction set reference, TDPBF16PS).
inline void multiply_tiles(int sums, int a, int b) {
  for (int r = 0; r < 16; ++r) {
    __m512 even = {}, odd = {};
    for (int k = 0; k < 16; ++k) {
      const Words16 x = Words16{} + tile_register(a).rows[r][k], weight = tile_register(b).rows[k];
      even = without_subnormal(
          fmadd(without_subnormal((__m512)(x << 16)), without_subnormal((__m512)(weight << 16)), even));
      odd = without_subnormal(fmadd(without_subnormal((__m512)(x & 0xffff0000u)),
                                    without_subnormal((__m512)(weight & 0xffff0000u)), odd));
    }
    const auto sum = without_subnormal((__m512)tile_register(sums).rows[r]);
    tile_register(sums).rows[r] = (Words16)without_subnormal(sum + without_subnormal(even + odd));
  }
}

}  // namespace
}  // namespace nemo::emulated

#define _mm512_permutexvar_epi8 ::nemo::emulated::look_up_bytes
#define _mm512_permutex2var_epi8 ::nemo::emulated::look_up_128_bytes
#define _mm512_multishift_epi64_epi8 ::nemo::emulated::shifted_fields
#define _mm512_unpacklo_epi8(a, b) ::nemo::emulated::interleaved(a, b, 0)
#define _mm512_unpackhi_epi8(a, b) ::nemo::emulated::interleaved(a, b, 8)
#define _mm512_subs_epu16 ::nemo::emulated::minus_not_below_zero
#define _mm512_max_epu8 ::nemo::emulated::larger_bytes
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig ::nemo::emulated::load_config
#define _tile_release ::nemo::emulated::release_tiles
#define _tile_zero(tile) ::nemo::emulated::tile_register(tile) = {}
#define _tile_loadd ::nemo::emulated::load_tile
#define _tile_stored ::nemo::emulated::store_tile
#define _tile_dpbf16ps ::nemo::emulated::multiply_tiles
#define _mm512_fmadd_ps ::nemo::emulated::fmadd
#define _mm512_max_ps ::nemo::emulated::larger
#define _mm512_min_ps ::nemo::emulated::smaller
#define _mm512_maskz_loadu_ps ::nemo::emulated::load_masked
#define _mm512_mask_storeu_ps ::nemo::emulated::store_masked
#define _mm512_dpbf16_ps ::nemo::emulated::dot_bf16
#define _mm512_cvtneps_pbh ::nemo::emulated::nearest_bf16

#endif
