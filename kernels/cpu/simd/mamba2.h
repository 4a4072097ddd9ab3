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
  const int64_t past = run.taps - 1;
  if (!run.from_zero) {
    for (int64_t j = 0; j < past; ++j)
      for (int64_t c = 0; c < run.channels; ++c) ring[j][c] = run.past[j * run.past_stride + c];
  }
  for (int64_t t = 0; t < run.rows; ++t) {
    const float* column[kConvMaxTaps];  // oldest first
    for (int64_t j = 0; j < run.taps; ++j) column[j] = ring[(t + j) % run.taps];
    float* now = ring[(t + past) % run.taps];
    for_each_vector(run.channels, [&](int64_t c, int64_t count) {
      store(now + c, round_vector(run.dtype, load_some(run.u + t * run.u_stride + c, count)));
      Floats sum = load(run.bias + c);
      for (int64_t j = 0; j < run.taps; ++j)
        sum = multiply_add(load(run.weight + j * kConvChannels + c), load(column[j] + c), sum);
      store_some(run.v + t * run.v_stride + c, count, silu(sum));
    });
  }
  for (int64_t j = 0; j < past; ++j)
    for (int64_t c = 0; c < run.channels; ++c)
      run.past[j * run.past_stride + c] = ring[(run.rows + j) % run.taps][c];
}

/// Tokens whose step sizes are worked out together.
constexpr int64_t kScanTokens = 64;

struct ScanSteps {
  float dt[kScanTokens];
  float decay[kScanTokens];  ///< exp(dt A)
};

void scan_steps(const ScanRun& run, int64_t begin, int64_t count, ScanSteps& steps) {
  for (int64_t t = 0; t < kScanTokens; ++t)
    steps.dt[t] = t < count ? run.dt_raw[(begin + t) * run.dt_stride] + run.dt_bias : 0.0f;
  const Floats a = -exp(broadcast(run.a_log));
  for (int64_t t = 0; t < count; t += kLanes) {
    const Floats dt =
        larger(broadcast(run.dt_min), smaller(broadcast(run.dt_max), softplus(load(steps.dt + t))));
    store(steps.dt + t, dt);
    store(steps.decay + t, exp(dt * a));
  }
}

/// kVectors * kLanes channels of the head from `p` on; n < kLanes channels if kVectors is 1 and the head ends
/// there.
template <int kVectors>
void scan_channels(const ScanRun& run, int64_t begin, int64_t count, const ScanSteps& steps, int64_t p,
                   int64_t n) {
  for (int64_t t = 0; t < count; ++t) {
    const int64_t row = begin + t;
    const float* b = run.b + row * run.xbc_stride;
    const float* c = run.c + row * run.xbc_stride;
    const Floats decay = broadcast(steps.decay[t]);
    Floats x[kVectors], dt_x[kVectors], y[kVectors] = {};
    for (int v = 0; v < kVectors; ++v) {
      x[v] = load_some(run.x + row * run.xbc_stride + p + v * kLanes, n);
      dt_x[v] = x[v] * steps.dt[t];
    }
    float* state = run.state + p;
    for (int64_t i = 0; i < run.state_size; ++i, state += run.head_dim) {
      const Floats b_i = broadcast(b[i]), c_i = broadcast(c[i]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Floats s = multiply_add(b_i, dt_x[v], decay * load_some(state + v * kLanes, n));
        store_some(state + v * kLanes, n, s);
        y[v] = multiply_add(s, c_i, y[v]);
      }
    }
    for (int v = 0; v < kVectors; ++v)
      store_some(run.y + row * run.y_stride + p + v * kLanes, n, multiply_add(broadcast(run.d), x[v], y[v]));
  }
}

void selective_scan_run(const ScanRun& run) {
  ScanSteps steps;
  for (int64_t begin = 0; begin < run.rows; begin += kScanTokens) {
    const int64_t count = run.rows - begin < kScanTokens ? run.rows - begin : kScanTokens;
    scan_steps(run, begin, count, steps);
    int64_t p = 0;
    for (; p + 4 * kLanes <= run.head_dim; p += 4 * kLanes)
      scan_channels<4>(run, begin, count, steps, p, kLanes);
    for (; p + kLanes <= run.head_dim; p += kLanes) scan_channels<1>(run, begin, count, steps, p, kLanes);
    if (p < run.head_dim) scan_channels<1>(run, begin, count, steps, p, run.head_dim - p);
  }
}

}  // namespace
}  // namespace nemo::kernels
