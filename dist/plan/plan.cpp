#include "dist/plan/plan.h"

#include <algorithm>
#include <cstdio>

#include "dist/plan/engine_sizes.h"
#include "dist/plan/layout_search.h"
#include "dist/plan/memory.h"
#include "kernels/error.h"
#include "lib/state/state_cache.h"

namespace nemo::dist {
namespace {

StagePlan stage_plan(const MemoryModel& memory, const Candidate& chosen, size_t stage) {
  StagePlan plan;
  plan.layers = chosen.stages[stage];
  plan.cost = chosen.stage_seconds[stage] / chosen.rows_per_step * 1e6;
  plan.kv_bytes_per_token = memory.kv_bytes_per_token(plan.layers);
  plan.state_bytes_per_sequence = memory.state_bytes_per_sequence(plan.layers);
  for (int64_t lane = 0; lane < chosen.layout.expert; ++lane)
    plan.weight_bytes.push_back(memory.weight_bytes(plan.layers, lane));
  plan.buffer_bytes = memory.buffer_bytes(plan.layers, chosen.sizes.max_batch_tokens);
  return plan;
}

std::vector<std::vector<kernels::ExpertRange>> expert_table(const ModelConfig& model, int64_t num_lanes) {
  std::vector<std::vector<kernels::ExpertRange>> table;
  for (const LayerConfig& layer : model.layers) {
    std::vector<kernels::ExpertRange>& blocks = table.emplace_back();
    if (layer.kind != LayerKind::kMoe) continue;
    for (int64_t lane = 0; lane < num_lanes; ++lane)
      blocks.push_back(expert_block(layer.n_routed_experts, num_lanes, lane));
  }
  return table;
}

std::string gib(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

/// Fills in what the fullest rank needs at the least.
void set_least_bytes(const MemoryModel& memory, const SizeRules& rules, Plan& plan) {
  const EngineSizes least = modest_sizes(rules, 1);
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const int64_t bytes = memory.rank_bytes(plan.stages[i].layers, least);
    if (bytes <= plan.least_bytes) continue;
    plan.least_bytes = bytes;
    plan.least_bytes_stage = static_cast<int64_t>(i);
  }
}

/// Why a draft does not fit and what would help.
[[noreturn]] void refuse_draft(const ModelConfig& model, const JobConfig& job, const Machine& machine,
                               const Plan& plan) {
  const std::optional<int64_t> enough = smallest_num_ranks(model, job, machine);
  const int64_t num_sequences = job.engine.max_sequences.value_or(1);
  throw Error(
      job.job_path,
      model.name + " does not fit: in the best layout, " + std::to_string(plan.layout.replicas) + " x " +
          std::to_string(plan.layout.pipeline) + " x " + std::to_string(plan.layout.expert) +
          " (replicas x pipeline x expert), a rank of stage " + std::to_string(plan.least_bytes_stage) +
          " needs " + gib(plan.least_bytes) + " for " + std::to_string(num_sequences) + " sequence" +
          (num_sequences == 1 ? "" : "s") + " and may use " + gib(machine.memory_per_rank),
      enough ? "it fits on " + std::to_string(*enough) + " ranks of this memory; --plan shows the bytes"
             : "no number of ranks of this memory fits; raise limits.memory or use larger hosts",
      ErrorKind::kBadJob);
}

/// Fewest stages into which the model fits with these sizes; 0 if a single layer is too large.
int64_t fewest_stages(const MemoryModel& memory, const EngineSizes& sizes, int64_t memory_per_rank) {
  const int64_t num_layers = memory.num_layers();
  if (memory.rank_bytes({0, num_layers}, sizes) <= memory_per_rank) return 1;
  int64_t num_stages = 0;
  for (int64_t begin = 0, end = 0; begin < num_layers; begin = end) {
    while (end < num_layers && memory.rank_bytes({begin, end + 1}, sizes) <= memory_per_rank) ++end;
    if (end == begin) return 0;
    ++num_stages;
  }
  return num_stages;
}

}  // namespace

Position Plan::position(int64_t rank) const {
  NEMO_CHECK(rank >= 0 && rank < layout.num_ranks(), "rank " + std::to_string(rank));
  const int64_t group = rank / layout.expert;
  return {.replica = group / layout.pipeline, .stage = group % layout.pipeline, .lane = rank % layout.expert};
}

int64_t Plan::rank(const Position& position) const {
  return (position.replica * layout.pipeline + position.stage) * layout.expert + position.lane;
}

int64_t Plan::stage_of_layer(int64_t layer) const {
  for (size_t i = 0; i < stages.size(); ++i)
    if (layer >= stages[i].layers.begin && layer < stages[i].layers.end) return static_cast<int64_t>(i);
  throw_broken_invariant("a stage holds the layer", "layer " + std::to_string(layer));
}

int64_t Plan::fixed_bytes(int64_t stage, int64_t lane) const {
  const StagePlan& of = stages.at(static_cast<size_t>(stage));
  return of.weight_bytes.at(static_cast<size_t>(lane)) + of.buffer_bytes;
}

int64_t Plan::rank_bytes(int64_t stage, int64_t lane) const {
  const StagePlan& of = stages.at(static_cast<size_t>(stage));
  return fixed_bytes(stage, lane) + max_sequences * of.state_bytes_per_sequence +
         kv_pages * kernels::kKvPageTokens * of.kv_bytes_per_token;
}

Plan draft_plan(const ModelConfig& model, const JobConfig& job, const Machine& machine) {
  const std::vector<Candidate> candidates = search_layouts(model, job, machine);
  const Candidate& chosen = candidates.front();
  const MemoryModel memory(model, storage_type(job), kv_format(job), chosen.layout.expert);
  Plan plan;
  plan.layout = chosen.layout;
  for (size_t i = 0; i < chosen.stages.size(); ++i) plan.stages.push_back(stage_plan(memory, chosen, i));
  plan.experts = expert_table(model, chosen.layout.expert);
  plan.max_sequences = chosen.sizes.max_sequences;
  plan.max_batch_tokens = chosen.sizes.max_batch_tokens;
  plan.prefill_chunk = prefill_chunk(job.engine, chosen.sizes.max_batch_tokens);
  plan.kv_pages = chosen.sizes.kv_pages;
  plan.kv_format = kv_format(job);
  plan.threads = threads_per_rank(job, machine);
  const SizeRules rules = size_rules(model, job, chosen.layout, machine.memory_per_rank);
  plan.typical_context = rules.context;
  set_least_bytes(memory, rules, plan);
  plan.tokens_per_s = chosen.tokens_per_s;
  for (const Candidate& candidate : candidates)
    plan.considered.push_back({candidate.layout, candidate.tokens_per_s});
  return plan;
}

Plan make_plan(const ModelConfig& model, const JobConfig& job, const Machine& machine) {
  Plan plan = draft_plan(model, job, machine);
  if (!plan.fits()) refuse_draft(model, job, machine, plan);
  return plan;
}

std::optional<int64_t> smallest_num_ranks(const ModelConfig& model, const JobConfig& job,
                                          const Machine& machine) {
  check_engine_config(job);
  const int64_t replicas = job.parallel.replicas.value_or(1);
  std::optional<int64_t> smallest;
  for (int64_t lanes = 1; lanes <= max_lanes(model); ++lanes) {
    if (lanes != job.parallel.expert.value_or(lanes)) continue;
    if (smallest && replicas * lanes >= *smallest) break;
    const MemoryModel memory(model, storage_type(job), kv_format(job), lanes);
    const Layout deepest{
        .replicas = replicas, .pipeline = job.parallel.pipeline.value_or(1), .expert = lanes};
    const SizeRules rules = size_rules(model, job, deepest, machine.memory_per_rank);
    const int64_t fewest = fewest_stages(memory, modest_sizes(rules, 1), machine.memory_per_rank);
    const int64_t stages = job.parallel.pipeline.value_or(fewest);
    if (fewest == 0 || stages < fewest || stages > model.num_layers()) continue;
    const int64_t ranks = replicas * stages * lanes;
    if (!smallest || ranks < *smallest) smallest = ranks;
  }
  return smallest;
}

std::string plan_fingerprint(const Plan& plan) {
  std::string text;
  const auto add = [&text](int64_t value) { text += std::to_string(value) + ','; };
  for (const int64_t value :
       {plan.layout.replicas, plan.layout.pipeline, plan.layout.expert, plan.max_sequences,
        plan.max_batch_tokens, plan.prefill_chunk, plan.kv_pages, static_cast<int64_t>(plan.kv_format)})
    add(value);
  for (const StagePlan& stage : plan.stages) {
    add(stage.layers.begin);
    add(stage.layers.end);
    for (const int64_t bytes : stage.weight_bytes) add(bytes);
  }
  for (const auto& blocks : plan.experts) {
    for (const kernels::ExpertRange& block : blocks) add(block.end);
    text += ';';
  }
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, 64 bits
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  char fingerprint[80];
  std::snprintf(fingerprint, sizeof(fingerprint), "%lldx%lldx%lld-%016llx",
                static_cast<long long>(plan.layout.replicas), static_cast<long long>(plan.layout.pipeline),
                static_cast<long long>(plan.layout.expert), static_cast<unsigned long long>(hash));
  return fingerprint;
}

}  // namespace nemo::dist
