#include "dist/plan/calibration.h"

#include <algorithm>

#include "kernels/error.h"

namespace nemo::dist {
namespace {

constexpr double kAssumedBytesPerS = 6e9;  // of a core while all are busy
constexpr double kAssumedFlops = 30e9;
constexpr double kFlopsPerWeight = 2;

/// Weights are read once, then computed with: a straight line.
ProductCurve assumed_curve(kernels::WeightFormat format) {
  const double read = bytes_per_weight(format) / kAssumedBytesPerS, row = kFlopsPerWeight / kAssumedFlops;
  return {.rows = {1, 2}, .seconds_per_weight = {read + row, read + 2 * row}};
}

double between(double a, double b, double fraction) {
  return a + (b - a) * fraction;
}

/// A curve whose speed at every number of rows lies between those of two measured at the same ones.
ProductCurve between(const ProductCurve& a, const ProductCurve& b, double fraction) {
  ProductCurve result{.rows = a.rows, .seconds_per_weight = {}};
  for (const double rows : a.rows)
    result.seconds_per_weight.push_back(1 / between(1 / a.at(rows), 1 / b.at(rows), fraction));
  return result;
}

KernelRates between(const KernelRates& a, const KernelRates& b, double fraction) {
  KernelRates result = a;
  for (size_t i = 0; i < kNumRates; ++i) result.rates[i] = between(a.rates[i], b.rates[i], fraction);
  for (size_t i = 0; i < kNumWeightFormats; ++i) {
    result.products[i] = between(a.products[i], b.products[i], fraction);
    result.experts[i] = between(a.experts[i], b.experts[i], fraction);
  }
  return result;
}

/// `factor` times as fast, but for the start of a kernel.
void accelerate(KernelRates& rates, double factor) {
  const double calls = rates[Rate::kCalls];
  for (double& rate : rates.rates) rate *= factor;
  rates[Rate::kCalls] = calls;
  for (auto* curves : {&rates.products, &rates.experts})
    for (ProductCurve& curve : *curves)
      for (double& seconds : curve.seconds_per_weight) seconds /= factor;
}

/// The whole host with `threads` at work.
KernelRates rates_of_host(const std::vector<KernelRates>& runs, double threads) {
  const auto above = std::find_if(runs.begin(), runs.end(), [&](const KernelRates& run) {
    return static_cast<double>(run.threads) >= threads;
  });
  if (above == runs.end() || above == runs.begin()) {
    KernelRates nearest = above == runs.end() ? runs.back() : runs.front();
    accelerate(nearest, threads / static_cast<double>(nearest.threads));
    return nearest;
  }
  const KernelRates& below = *(above - 1);
  const double span = static_cast<double>(above->threads - below.threads);
  return between(below, *above, (threads - static_cast<double>(below.threads)) / span);
}

}  // namespace

double bytes_per_weight(kernels::WeightFormat format) {
  switch (format) {
    case kernels::WeightFormat::kFloat32:
      return 4;
    case kernels::WeightFormat::kBFloat16:
      return 2;
    case kernels::WeightFormat::kFp8:
      return 1;
    case kernels::WeightFormat::kNvfp4:
      return 0.5 + 1.0 / static_cast<double>(kernels::kNvfp4Block);
  }
  return 0;
}

double ProductCurve::at(double num_rows) const {
  if (num_rows <= rows.front()) return seconds_per_weight.front();
  size_t i = 1;
  while (i + 1 < rows.size() && rows[i] < num_rows) ++i;
  const double fraction = (num_rows - rows[i - 1]) / (rows[i] - rows[i - 1]);
  return between(seconds_per_weight[i - 1], seconds_per_weight[i], fraction);
}

Calibration assumed_calibration() {
  KernelRates core;
  core[Rate::kReadBytes] = kAssumedBytesPerS;
  for (const Rate rate : {Rate::kAttentionDecode, Rate::kAttentionDecodeFp8, Rate::kAttentionPrefill})
    core[rate] = kAssumedFlops;
  core[Rate::kScanDecode] = 0.6e9;  // 8 bytes of state read and written
  core[Rate::kScanPrefill] = 4e9;   // 6 operations
  core[Rate::kElements] = 2e9;
  core[Rate::kRouterScores] = 0.5e9;
  core[Rate::kLogits] = 0.5e9;
  core[Rate::kCalls] = 1e6;
  for (size_t i = 0; i < kNumWeightFormats; ++i)
    core.products[i] = core.experts[i] = assumed_curve(static_cast<kernels::WeightFormat>(i));
  return {.source = "",
          .processor = "assumed",
          .instruction_set = "any",
          .runs = {core},
          .host_message = {.latency_s = 2e-6, .bytes_per_s = 5e9}};
}

KernelRates rates_of_rank(const Calibration& calibration, const CoreShare& share) {
  NEMO_CHECK(!calibration.runs.empty() && share.threads >= 1 && share.cores_per_host >= 1, "calibration");
  const double threads = static_cast<double>(share.threads),
               cores = static_cast<double>(share.cores_per_host);
  const double own = std::min(threads, cores);
  const double busy = std::min(own * std::max(1.0, share.busy_ranks), cores);
  KernelRates rates = rates_of_host(calibration.runs, busy);
  accelerate(rates, own / busy);
  rates.threads = share.threads;
  // A kernel is over when its last thread has had its turn.
  rates[Rate::kCalls] *= own / threads;
  return rates;
}

}  // namespace nemo::dist
