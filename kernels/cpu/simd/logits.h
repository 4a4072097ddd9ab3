// Maximum and log-sum-exp of one row of logits.
#pragma once

#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {
namespace {

constexpr float kInfinity = __builtin_inff();

/// Largest of n values; NaN never wins; -infinity if there is nothing else.
float largest_of(const float* x, int64_t n) {
  Floats best[4];
  for (Floats& b : best) b = broadcast(-kInfinity);
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int j = 0; j < 4; ++j) best[j] = larger(load(x + i + j * kLanes), best[j]);
  float largest = largest_lane(larger(larger(best[0], best[1]), larger(best[2], best[3])));
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

float sum_of_exp(const float* x, int64_t n, float max) {
  Floats sum = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum += exp_of_nonpositive(load(x + i) - max);
  if (i < n) {
    const Floats e = exp_of_nonpositive(load_first(x + i, n - i) - max);
    sum += lane_index() < static_cast<int32_t>(n - i) ? e : Floats{};
  }
  return sum_of_lanes(sum);
}

bool has_nan(const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (x[i] != x[i]) return true;
  return false;
}

/// A row is read once, in stretches that stay in L1: what was summed before a stretch with a new maximum is
/// brought to that. So sums of 131,072 terms lose no more than those of a stretch do.
constexpr int64_t kStretch = 1024;

void logit_stats_row(const float* x, int64_t n, LogitStats* stats) {
  float max = -kInfinity;
  double sum = 0.0;
  int64_t place = 0;  // of the maximum: first its stretch
  for (int64_t i = 0; i < n; i += kStretch) {
    const int64_t count = n - i < kStretch ? n - i : kStretch;
    const float largest = largest_of(x + i, count);
    if (largest > max) {
      sum *= static_cast<double>(exp_of_nonpositive(broadcast(max - largest))[0]);
      max = largest;
      place = i;
    }
    sum += sum_of_exp(x + i, count, max > -kInfinity ? max : 0.0f);
  }
  while (place < n && x[place] != max) ++place;
  stats->max = max;
  stats->argmax = place < n ? static_cast<int32_t>(place) : 0;
  // exp and log are not made for these: infinity - infinity, and the logarithm of NaN.
  if (max == kInfinity || max == -kInfinity) {
    stats->log_sum_exp = has_nan(x, n) ? __builtin_nanf("") : max;
    return;
  }
  const auto terms = static_cast<float>(sum);
  stats->log_sum_exp = terms == terms ? max + log(broadcast(terms))[0] : terms;
}

}  // namespace
}  // namespace nemo::kernels
