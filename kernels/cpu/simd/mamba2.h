// Convolution and recurrence of one sequence, token after token, parallel over channels within a vector.
#pragma once

#include "kernels/cpu/simd/elementwise.h"
#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {
namespace {

void conv_silu_run(const ConvRun& run) {
  // The last `taps` columns in a ring, as rounded: every row is rounded once and a chunk may be shorter than
  // the past.
  alignas(64) float ring[kConvMaxTaps][kConvChannels] = {};
  float* column[kConvMaxTaps];  // oldest first; the last one is the current row's
  for (int64_t j = 0; j < run.taps; ++j) column[j] = ring[j];
  const int64_t past = run.taps - 1;
  if (!run.from_zero) {
    for (int64_t j = 0; j < past; ++j)
      for (int64_t c = 0; c < run.channels; ++c) column[j][c] = run.past[j * run.past_stride + c];
  }
  for (int64_t t = 0; t < run.rows; ++t) {
    const float* u = run.u + t * run.u_stride;
    float* v = run.v + t * run.v_stride;
    for_each_vector(run.channels, [&](int64_t c, int64_t count) {
      store(column[past] + c, round_vector(run.dtype, load_some(u + c, count)));
      Floats sum = load(run.bias + c);
      for (int64_t j = 0; j < run.taps; ++j)
        sum = multiply_add(load(run.weight + j * kConvChannels + c), load(column[j] + c), sum);
      store_some(v + c, count, silu(sum));
    });
    float* oldest = column[0];
    for (int64_t j = 0; j < past; ++j) column[j] = column[j + 1];
    column[past] = oldest;
  }
  for (int64_t j = 0; j < past; ++j)
    for (int64_t c = 0; c < run.channels; ++c) run.past[j * run.past_stride + c] = column[j][c];
}

/// Rows of a head's state that are held in registers, times kStateVectors vectors of its channels, while a
/// chunk of tokens passes through.
constexpr int kStateRows = 4;
constexpr int kStateVectors = kLanes == 16 ? 4 : 2;

/// A chunk of tokens as the recurrence of one head reads it. All in run.scratch.
struct ScanChunk {
  int64_t begin, count;  ///< rows of the run
  int64_t width;         ///< head_dim in whole vectors
  float* b_c;            ///< [state_size / kStateRows][count, 2, kStateRows]: B and C, in the order of use
  int64_t b_c_stride;    ///< from one group of rows to the next
  float* dt_x;           ///< [count, width]
  float* y;              ///< [count, width]: sums over the rows of state so far
  float dt[kScanTokens];
  float decay[kScanTokens];  ///< exp(dt A)
};

/// Rows of a batch lie many pages apart, where the hardware does not look ahead: lines of the row so many
/// tokens on are asked for.
constexpr int64_t kTokensAhead = 8;
NEMO_INLINE void ask_for(const float* p, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(p + i);
}

/// The same for all heads of the run.
void gather_b_c(const ScanRun& run, ScanChunk& chunk) {
  for (int64_t t = 0; t < chunk.count; ++t) {
    const float* b = run.b + (chunk.begin + t) * run.xbc_stride;
    const float* c = run.c + (chunk.begin + t) * run.xbc_stride;
    ask_for(b + kTokensAhead * run.xbc_stride, run.state_size);
    ask_for(c + kTokensAhead * run.xbc_stride, run.state_size);
    float* out = chunk.b_c + t * 2 * kStateRows;
    for (int64_t i = 0; i < run.state_size; i += kStateRows, out += chunk.b_c_stride) {
      const int64_t rows = run.state_size - i < kStateRows ? run.state_size - i : kStateRows;
      for (int64_t r = 0; r < rows; ++r) {
        out[r] = b[i + r];
        out[kStateRows + r] = c[i + r];
      }
    }
  }
}

void begin_head(const ScanRun& run, int64_t head, ScanChunk& chunk) {
  for (int64_t t = 0; t < kScanTokens; ++t)
    chunk.dt[t] =
        t < chunk.count ? run.dt_raw[(chunk.begin + t) * run.dt_stride + head] + run.dt_bias[head] : 0.0f;
  const Floats a = -exp(broadcast(run.a_log[head]));
  for (int64_t t = 0; t < chunk.count; t += kLanes) {
    const Floats dt =
        larger(broadcast(run.dt_min), smaller(broadcast(run.dt_max), softplus(load(chunk.dt + t))));
    store(chunk.dt + t, dt);
    store(chunk.decay + t, exp(dt * a));
  }
  for (int64_t t = 0; t < chunk.count; ++t) {
    const float* x = run.x + (chunk.begin + t) * run.xbc_stride + head * run.head_dim;
    ask_for(x + kTokensAhead * run.xbc_stride, run.head_dim);
    for_each_vector(run.head_dim, [&](int64_t p, int64_t n) {
      store(chunk.dt_x + t * chunk.width + p, load_some(x + p, n) * chunk.dt[t]);
      store(chunk.y + t * chunk.width + p, Floats{});
    });
  }
}

/// kRows rows of state, from row r of a group of kStateRows on, times kVectors vectors of channels from p on;
/// n < kLanes channels if kVectors is 1 and the head ends there.
template <int kRows, int kVectors>
void scan_tile(const ScanChunk& chunk, const float* b_c, int64_t p, int64_t n, int64_t head_dim,
               float* state) {
  Floats s[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) s[r][v] = load_some(state + r * head_dim + v * kLanes, n);
  const float* dt_x = chunk.dt_x + p;
  float* out = chunk.y + p;
  for (int64_t t = 0; t < chunk.count; ++t) {
    const Floats decay = broadcast(chunk.decay[t]);
    Floats x[kVectors], y[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) x[v] = load(dt_x + v * kLanes);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) y[v] = load(out + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        s[r][v] = multiply_add(broadcast(b_c[r]), x[v], decay * s[r][v]);
        y[v] = multiply_add(s[r][v], broadcast(b_c[kStateRows + r]), y[v]);
      }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(out + v * kLanes, y[v]);
    b_c += 2 * kStateRows;
    dt_x += chunk.width;
    out += chunk.width;
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store_some(state + r * head_dim + v * kLanes, n, s[r][v]);
}

template <int kRows>
void scan_rows(const ScanChunk& chunk, const float* b_c, int64_t head_dim, float* state) {
  int64_t p = 0;
  for (; p + kStateVectors * kLanes <= head_dim; p += kStateVectors * kLanes)
    scan_tile<kRows, kStateVectors>(chunk, b_c, p, kLanes, head_dim, state + p);
  for (; p < head_dim; p += kLanes)
    scan_tile<kRows, 1>(chunk, b_c, p, head_dim - p < kLanes ? head_dim - p : kLanes, head_dim, state + p);
}

void scan_head(const ScanRun& run, int64_t head, ScanChunk& chunk) {
  begin_head(run, head, chunk);
  float* state = run.state + head * run.state_size * run.head_dim;
  int64_t i = 0;
  for (; i + kStateRows <= run.state_size; i += kStateRows)
    scan_rows<kStateRows>(chunk, chunk.b_c + i / kStateRows * chunk.b_c_stride, run.head_dim,
                          state + i * run.head_dim);
  for (int64_t r = 0; i + r < run.state_size; ++r)
    scan_rows<1>(chunk, chunk.b_c + i / kStateRows * chunk.b_c_stride + r, run.head_dim,
                 state + (i + r) * run.head_dim);
  for (int64_t t = 0; t < chunk.count; ++t) {
    const int64_t row = chunk.begin + t;
    const float* x = run.x + row * run.xbc_stride + head * run.head_dim;
    float* y = run.y + row * run.y_stride + head * run.head_dim;
    ask_for(x + kTokensAhead * run.xbc_stride, run.head_dim);
    ask_for(y + kTokensAhead * run.y_stride, run.head_dim);
    for_each_vector(run.head_dim, [&](int64_t p, int64_t n) {
      store_some(
          y + p, n,
          multiply_add(broadcast(run.d[head]), load_some(x + p, n), load(chunk.y + t * chunk.width + p)));
    });
  }
}

void selective_scan_run(const ScanRun& run) {
  ScanChunk chunk;
  chunk.width = (run.head_dim + kLanes - 1) / kLanes * kLanes;
  chunk.dt_x = run.scratch;
  chunk.y = chunk.dt_x + kScanTokens * chunk.width;
  chunk.b_c = chunk.y + kScanTokens * chunk.width;
  for (chunk.begin = 0; chunk.begin < run.rows; chunk.begin += kScanTokens) {
    chunk.count = run.rows - chunk.begin < kScanTokens ? run.rows - chunk.begin : kScanTokens;
    chunk.b_c_stride =
        (2 * kStateRows) * chunk.count + 16;  // a line more, or all would meet in one set of L1
    gather_b_c(run, chunk);
    for (int64_t head = 0; head < run.heads; ++head) scan_head(run, head, chunk);
  }
}

}  // namespace
}  // namespace nemo::kernels
