// How fast a machine's kernels are: what the cost model computes with. Either measured (a calibration file,
// made by nemo-bench --calibrate, dist/plan/calibration_file.h) or assumed: round numbers for a server of
// today.
//
// Only +, -, *, / are used, so that every rank computes the same bits.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/weight_format.h"

namespace nemo::dist {

/// What is measured besides matrix products, each as so many a second with all threads of a run.
enum class Rate : uint8_t {
  kReadBytes,           ///< from memory, in the best access pattern
  kAttentionDecode,     ///< operations (4 x heads x head_dim a row and token of context) where a sequence has
                        ///< one row
  kAttentionDecodeFp8,  ///< the same over keys and values kept in FP8
  kAttentionPrefill,    ///< where a sequence has many rows, however keys and values are kept
  kScanDecode,    ///< elements of Mamba state (inner x state_size) a row; convolution and gated norm included
  kScanPrefill,   ///< the same where a sequence has many rows
  kElements,      ///< elements of rows that a norm, an activation or a residual touches
  kRouterScores,  ///< scores of experts that the choice of the best looks at
  kLogits,        ///< logits that sampling looks at
  kCalls,         ///< starts of a kernel on all threads; does not grow with them
};
inline constexpr size_t kNumRates = static_cast<size_t>(Rate::kCalls) + 1;
inline constexpr size_t kNumWeightFormats = static_cast<size_t>(kernels::WeightFormat::kNvfp4) + 1;

/// Bytes that a product reads for a weight of the matrix, padding and a matrix's one scale not counted.
double bytes_per_weight(kernels::WeightFormat format);

/// Seconds of a matrix product for each weight of the matrix, by the number of rows that go through it.
struct ProductCurve {
  std::vector<double> rows;  ///< rising, at least two, from 1
  std::vector<double> seconds_per_weight;

  /// Linear between the points and beyond the last; a fraction of a row costs what one does.
  double at(double num_rows) const;
};

/// The kernels with so many threads at work.
struct KernelRates {
  int64_t threads = 1;
  std::array<double, kNumRates> rates{};
  std::array<ProductCurve, kNumWeightFormats> products;  ///< one matrix
  std::array<ProductCurve, kNumWeightFormats> experts;   ///< many small ones, rows of each

  double operator[](Rate rate) const { return rates[static_cast<size_t>(rate)]; }
  double& operator[](Rate rate) { return rates[static_cast<size_t>(rate)]; }
};

/// A message from one rank to another, all copies included.
struct MessageCost {
  double latency_s = 0;
  double bytes_per_s = 0;
};

struct Calibration {
  std::string source;  ///< the file; empty = assumed
  std::string processor;
  std::string instruction_set;
  std::vector<KernelRates> runs;  ///< by rising threads; the last one uses every core of the host
  MessageCost host_message;       ///< between two ranks of a host

  bool is_measured() const { return !source.empty(); }
};

/// 6 GB/s and 30 GFLOP/s a core, 2 us and 5 GB/s between ranks.
Calibration assumed_calibration();

/// How a rank shares its host.
struct CoreShare {
  int64_t threads = 1;         ///< of the rank
  double busy_ranks = 1;       ///< of the host, this one included, that have something to compute
  int64_t cores_per_host = 1;  ///< a rank of more threads than these uses all of them, in turns
};

/// How fast one rank of such a host is while it has a core for each of its threads: the host's rates with all
/// of its cores that are busy at work, divided among them. What ranks wait for each other where there are
/// fewer cores is not in it (cost_model.h). Between the runs of a calibration, rates are interpolated; a host
/// of more cores than the largest run counts as so many times that machine.
KernelRates rates_of_rank(const Calibration& calibration, const CoreShare& share);

}  // namespace nemo::dist
