#include "dist/plan/engine_sizes.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "kernels/ops/attention.h"

namespace nemo::dist {
namespace {

constexpr int64_t kTypicalOutputTokens = 4096;  // most outputs end before a generous max_tokens
constexpr int64_t kAutoSequences = 256;
constexpr int64_t kAutoRowsPerMicroBatch = 16;  // what a step of a deep pipeline should have at least
constexpr int64_t kAutoBatchTokens = 512;
constexpr int64_t kLeastBatchTokens = 16;
constexpr int64_t kAutoPrefillChunk = 256;
constexpr int64_t kMostRows = int64_t{1}
                              << 20;  // beyond it a value is a typing error, and sums stay far from overflow

void check_positive(const JobConfig& job, const char* key, const std::optional<int64_t>& value) {
  if (!value || (*value >= 1 && *value <= kMostRows)) return;
  throw Error(job.job_path + ": engine." + key,
              "must be between 1 and " + std::to_string(kMostRows) + ", not " + std::to_string(*value),
              "or leave it at auto", ErrorKind::kBadJob);
}

void check_order(const JobConfig& job, const char* small_key, const std::optional<int64_t>& small,
                 const char* large_key, const std::optional<int64_t>& large, const std::string& reason) {
  if (!small || !large || *small <= *large) return;
  throw Error(job.job_path + ": engine." + small_key,
              std::to_string(*small) + " is more than engine." + large_key + " " + std::to_string(*large) +
                  ": " + reason,
              std::string("lower the first, raise the second, or leave one at auto"), ErrorKind::kBadJob);
}

/// Rows of a step to choose from, falling.
std::vector<int64_t> batch_token_choices(const SizeRules& rules) {
  if (rules.fixed.max_batch_tokens) return {*rules.fixed.max_batch_tokens};
  const int64_t wanted_slots = rules.fixed.max_sequences.value_or(rules.auto_sequences);
  const int64_t least = std::max(
      {kLeastBatchTokens, rules.fixed.max_sequences.value_or(1), rules.fixed.prefill_chunk.value_or(1)});
  std::vector<int64_t> choices = {std::max({kAutoBatchTokens, wanted_slots, least})};
  while (choices.back() > least) choices.push_back(std::max(least, choices.back() / 2));
  return choices;
}

int64_t pages_for(const SizeRules& rules, int64_t num_sequences) {
  // Slots the job fixes may be more than there is room for at full length: one page each, one whole sequence
  // in all.
  if (rules.fixed.max_sequences) return std::max(num_sequences, kernels::kv_pages_of(rules.context));
  return num_sequences * kernels::kv_pages_of(rules.context);
}

/// Bytes left on a stage's fullest rank after weights and buffers; negative if they do not fit.
int64_t room(const MemoryModel& memory, LayerRange stage, const SizeRules& rules, int64_t batch_tokens) {
  return rules.memory_per_rank -
         memory.rank_bytes(stage, {.max_sequences = 0, .max_batch_tokens = batch_tokens, .kv_pages = 0});
}

/// Slots that fit on every stage with steps of `batch_tokens` rows.
int64_t slots_that_fit(const MemoryModel& memory, std::span<const LayerRange> stages, const SizeRules& rules,
                       int64_t batch_tokens) {
  const int64_t wanted = rules.fixed.max_sequences.value_or(std::min(rules.auto_sequences, batch_tokens));
  int64_t slots = wanted;
  for (const LayerRange& stage : stages) {
    const int64_t free_bytes = room(memory, stage, rules, batch_tokens);
    const int64_t state = memory.state_bytes_per_sequence(stage);
    const int64_t page = memory.kv_bytes_per_token(stage) * kernels::kKvPageTokens;
    if (rules.fixed.max_sequences) {
      if (free_bytes < wanted * state + pages_for(rules, wanted) * page) return 0;
      continue;
    }
    const int64_t sequence = state + kernels::kv_pages_of(rules.context) * page;
    if (free_bytes < 0) return 0;
    if (sequence > 0) slots = std::min(slots, free_bytes / sequence);
  }
  return slots;
}

}  // namespace

void check_engine_config(const JobConfig& job) {
  const EngineConfig& engine = job.engine;
  check_positive(job, "max_sequences", engine.max_sequences);
  check_positive(job, "max_batch_tokens", engine.max_batch_tokens);
  check_positive(job, "prefill_chunk", engine.prefill_chunk);
  check_order(job, "max_sequences", engine.max_sequences, "max_batch_tokens", engine.max_batch_tokens,
              "a step could not take one token of every sequence");
  check_order(job, "prefill_chunk", engine.prefill_chunk, "max_batch_tokens", engine.max_batch_tokens,
              "a step could not take one chunk");
}

int64_t typical_output_tokens(const JobConfig& job) {
  return job.task == Task::kGenerate ? std::min(job.sampling.max_tokens, kTypicalOutputTokens) : 0;
}

SizeRules size_rules(const ModelConfig& model, const JobConfig& job, const Layout& layout,
                     int64_t memory_per_rank) {
  const int64_t output = typical_output_tokens(job);
  SizeRules rules;
  rules.fixed = job.engine;
  rules.context = std::min(model.max_position_embeddings, kTypicalPromptTokens + output);
  rules.mean_decode_context = static_cast<double>(rules.context - std::min(output, rules.context) / 2);
  rules.max_context = model.max_position_embeddings;
  rules.auto_sequences = std::max(kAutoSequences, kAutoRowsPerMicroBatch * layout.pipeline);
  rules.memory_per_rank = memory_per_rank;
  return rules;
}

EngineSizes modest_sizes(const SizeRules& rules, int64_t num_sequences) {
  EngineSizes sizes;
  sizes.max_sequences = rules.fixed.max_sequences.value_or(num_sequences);
  sizes.max_batch_tokens = batch_token_choices(rules).back();
  sizes.kv_pages = pages_for(rules, sizes.max_sequences);
  return sizes;
}

EngineSizes largest_sizes(const MemoryModel& memory, std::span<const LayerRange> stages,
                          const SizeRules& rules) {
  const std::vector<int64_t> choices = batch_token_choices(rules);
  std::vector<int64_t> slots;
  for (const int64_t batch_tokens : choices)
    slots.push_back(slots_that_fit(memory, stages, rules, batch_tokens));
  const int64_t most_slots = *std::max_element(slots.begin(), slots.end());
  EngineSizes sizes{.max_sequences = 0, .max_batch_tokens = choices.back(), .kv_pages = 0};
  if (most_slots == 0) return sizes;
  // Longer steps speed prompts up, but must not take more than half of the sequences' places.
  const auto first = std::find_if(slots.begin(), slots.end(), [&](int64_t n) { return 2 * n >= most_slots; });
  sizes.max_sequences = *first;
  sizes.max_batch_tokens = choices[static_cast<size_t>(first - slots.begin())];
  sizes.kv_pages = sizes.max_sequences * kernels::kv_pages_of(rules.max_context);
  for (const LayerRange& stage : stages) {
    const int64_t page = memory.kv_bytes_per_token(stage) * kernels::kKvPageTokens;
    const int64_t free_bytes = room(memory, stage, rules, sizes.max_batch_tokens) -
                               sizes.max_sequences * memory.state_bytes_per_sequence(stage);
    if (page > 0) sizes.kv_pages = std::min(sizes.kv_pages, free_bytes / page);
  }
  return sizes;
}

int64_t prefill_chunk(const EngineConfig& fixed, int64_t max_batch_tokens) {
  return fixed.prefill_chunk.value_or(std::min(kAutoPrefillChunk, max_batch_tokens));
}

}  // namespace nemo::dist
