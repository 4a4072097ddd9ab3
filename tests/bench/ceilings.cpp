#include "tests/bench/ceilings.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "tests/bench/stopwatch.h"

namespace nemo::bench {

namespace {

using kernels::Isa;
using kernels::ThreadPool;

/// Larger than any cache, in pages that do not limit the measurement.
constexpr int64_t kReadBytes = int64_t{512} << 20;
constexpr int64_t kPeakRounds = 20'000'000;

/// Keeps the compiler from dropping a result that nobody reads.
template <class Value>
void keep(const Value& value) {
  asm volatile("" : : "m"(value) : "memory");
}

/// `streams` addresses advance side by side, and lines `ahead` bytes further on are asked for: memory systems
/// differ in what they like, and a ceiling is the best of all.
__attribute__((target("avx2"))) void read_all(const char* data, int64_t bytes, int64_t streams,
                                              int64_t ahead) {
  __m256i sum[4] = {};
  const int64_t part = bytes / streams;
  for (int64_t i = 0; i < part; i += 128) {
    for (int64_t s = 0; s < streams; ++s) {
      const auto* at = reinterpret_cast<const __m256i*>(data + s * part + i);
      for (int j = 0; j < 4; ++j) sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(at + j));
      if (ahead > 0) _mm_prefetch(data + s * part + i + ahead, _MM_HINT_T0);
    }
  }
  keep(sum);
}

double measure_read(ThreadPool& threads) {
  struct Free {
    void operator()(char* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<char, Free> data(static_cast<char*>(std::aligned_alloc(size_t{2} << 20, kReadBytes)));
  if (!data) throw std::bad_alloc();
  madvise(data.get(), kReadBytes, MADV_HUGEPAGE);
  std::fill_n(data.get(), kReadBytes, '\1');
  const int64_t part = kReadBytes / threads.num_threads() / 4096 * 4096;
  double best = 0;
  for (const int64_t streams : {1, 2, 4, 8}) {
    for (const int64_t ahead : {0, 2048, 4096}) {
      const double seconds = fastest(3, [&] {
        threads.run(threads.num_threads(),
                    [&](int64_t t) { read_all(data.get() + t * part, part, streams, ahead); });
      });
      best = std::max(best, static_cast<double>(part * threads.num_threads()) / seconds);
    }
  }
  return best;
}

// Twelve independent sums hide the latency of two units; named so that none is spilled to the stack.
#define NEMO_TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

__attribute__((target("avx2,fma"))) void multiply_avx2(int64_t rounds) {
  const __m256 x = _mm256_set1_ps(1e-9f);
#define NEMO_DECLARE(i) __m256 sum##i = _mm256_set1_ps(i);
  NEMO_TWELVE(NEMO_DECLARE)
#undef NEMO_DECLARE
  for (int64_t r = 0; r < rounds; ++r) {
#define NEMO_STEP(i) sum##i = _mm256_fmadd_ps(sum##i, x, x);
    NEMO_TWELVE(NEMO_STEP)
#undef NEMO_STEP
  }
#define NEMO_KEEP(i) keep(sum##i);
  NEMO_TWELVE(NEMO_KEEP)
#undef NEMO_KEEP
}

__attribute__((target("avx512f"))) void multiply_avx512(int64_t rounds) {
  const __m512 x = _mm512_set1_ps(1e-9f);
#define NEMO_DECLARE(i) __m512 sum##i = _mm512_set1_ps(i);
  NEMO_TWELVE(NEMO_DECLARE)
#undef NEMO_DECLARE
  for (int64_t r = 0; r < rounds; ++r) {
#define NEMO_STEP(i) sum##i = _mm512_fmadd_ps(sum##i, x, x);
    NEMO_TWELVE(NEMO_STEP)
#undef NEMO_STEP
  }
#define NEMO_KEEP(i) keep(sum##i);
  NEMO_TWELVE(NEMO_KEEP)
#undef NEMO_KEEP
}

__attribute__((target("avx512f,avx512bf16"))) void multiply_bf16(int64_t rounds) {
  const auto x = (__m512bh)_mm512_set1_epi32(0x3f803f80);
#define NEMO_DECLARE(i) __m512 sum##i = _mm512_set1_ps(i);
  NEMO_TWELVE(NEMO_DECLARE)
#undef NEMO_DECLARE
  for (int64_t r = 0; r < rounds; ++r) {
#define NEMO_STEP(i) sum##i = _mm512_dpbf16_ps(sum##i, x, x);
    NEMO_TWELVE(NEMO_STEP)
#undef NEMO_STEP
  }
#define NEMO_KEEP(i) keep(sum##i);
  NEMO_TWELVE(NEMO_KEEP)
#undef NEMO_KEEP
}

/// Four sums of 16 x 16 hide the latency of the one unit, three times a round.
__attribute__((target("amx-tile,amx-bf16"))) void multiply_amx(int64_t rounds) {
  struct Config {
    uint8_t palette, rest[15];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
  static constexpr Config kConfig = {1, {}, {64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&kConfig);  // zeroes all tiles
  for (int64_t r = 0; r < 3 * rounds; ++r) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
}

/// What twelve instructions a round give; flops of one = sums * products per sum * 2.
double measure_peak(ThreadPool& threads, void (*multiply)(int64_t), int64_t flops) {
  const double seconds =
      fastest(3, [&] { threads.run(threads.num_threads(), [&](int64_t) { multiply(kPeakRounds); }); });
  return 12.0 * static_cast<double>(kPeakRounds * flops * threads.num_threads()) / seconds;
}

}  // namespace

Ceilings measure_ceilings(ThreadPool& threads, Isa isa) {
  Ceilings ceilings;
  ceilings.read_bytes_per_s = measure_read(threads);
  const bool wide = isa >= Isa::kAvx512;
  ceilings.float32_flops_per_s =
      measure_peak(threads, wide ? multiply_avx512 : multiply_avx2, wide ? 32 : 16);
  ceilings.bfloat16_flops_per_s = isa == Isa::kAmx ? measure_peak(threads, multiply_amx, 16 * 16 * 64)
                                  : isa == Isa::kAvx512Bf16 ? measure_peak(threads, multiply_bf16, 64)
                                                            : ceilings.float32_flops_per_s;
  return ceilings;
}

}  // namespace nemo::bench
