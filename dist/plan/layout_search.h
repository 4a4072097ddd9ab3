// Which layouts are possible, and which is best.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dist/plan/memory.h"
#include "dist/plan/plan.h"

namespace nemo::dist {

/// A layout with its stages and sizes settled.
struct Candidate {
  Layout layout;
  std::vector<LayerRange> stages;
  std::vector<double> stage_seconds;  ///< of one step of decoding
  double rows_per_step = 1;           ///< of a micro-batch, what stage_seconds are for
  EngineSizes sizes;                  ///< max_sequences 0: does not fit
  double tokens_per_s = 0;            ///< 0: does not fit
  int64_t peak_bytes = 0;             ///< of the fullest rank
};

/// What a search did: the bound on its time, independent of the machine it runs on.
struct SearchWork {
  int64_t num_layouts = 0;
  int64_t num_ranges = 0;  ///< stages examined by the cuts
};

/// The most stages and lanes a model can use: one layer a stage, one expert of every MoE layer a lane (1
/// without MoE).
int64_t max_stages(const ModelConfig& model);
int64_t max_lanes(const ModelConfig& model);

/// All layouts of `num_ranks` ranks that keep to what is fixed and to the model's limits; by lanes, then
/// stages, rising.
std::vector<Layout> possible_layouts(const ModelConfig& model, const ParallelConfig& fixed,
                                     int64_t num_ranks);

/// Throws Error(kBadJob) if the parallel section cannot be met on so many ranks, with the nearest possible
/// layouts.
void check_parallel_config(const ModelConfig& model, const JobConfig& job, int64_t num_ranks);

/// Threads of a rank.
int64_t threads_per_rank(const JobConfig& job, const Machine& machine);

/// Every possible layout, best first: those that fit by decode throughput, then the others by memory. Where
/// the best are equally fast as far as anybody can tell, the one that communicates least comes first. Throws
/// as check_parallel_config. Never empty.
std::vector<Candidate> search_layouts(const ModelConfig& model, const JobConfig& job, const Machine& machine,
                                      SearchWork* work = nullptr);

}  // namespace nemo::dist
