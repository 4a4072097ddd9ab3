// How many sequences, rows of a step and KV pages a lane gets: the same on all its stages, so the fullest
// rank decides.
#pragma once

#include <cstdint>
#include <span>

#include "dist/plan/memory.h"
#include "dist/plan/plan.h"
#include "lib/config/job_config.h"
#include "lib/config/model_config.h"

namespace nemo::dist {

/// Requests as they are where nothing better is known.
inline constexpr int64_t kTypicalPromptTokens = 1024;
int64_t typical_output_tokens(const JobConfig& job);

/// What the sizes of a lane's engine must keep to.
struct SizeRules {
  EngineConfig fixed;              ///< what the job fixes
  int64_t context = 0;             ///< tokens of a typical sequence; room for at least one is required
  double mean_decode_context = 0;  ///< tokens before those that a typical sequence draws, on average
  int64_t max_context = 0;         ///< tokens of the longest sequence
  int64_t auto_sequences = 0;      ///< the most slots worth having
  int64_t memory_per_rank = 0;
};

/// Checks the engine section of the job against itself. Throws Error(kBadJob).
void check_engine_config(const JobConfig& job);

SizeRules size_rules(const ModelConfig& model, const JobConfig& job, const Layout& layout,
                     int64_t memory_per_rank);

/// The sizes with room for `num_sequences` typical sequences and the shortest steps. What the job fixes wins.
EngineSizes modest_sizes(const SizeRules& rules, int64_t num_sequences);

/// The largest sizes that fit on every stage; max_sequences 0 if not even one sequence fits.
EngineSizes largest_sizes(const MemoryModel& memory, std::span<const LayerRange> stages,
                          const SizeRules& rules);

/// Rows one prompt may take in one step.
int64_t prefill_chunk(const EngineConfig& fixed, int64_t max_batch_tokens);

}  // namespace nemo::dist
