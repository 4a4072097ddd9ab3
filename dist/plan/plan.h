// Plan: which layers and experts each rank holds, how many bytes that is, and what crosses the wire. An
// immutable value from a pure function of (ModelConfig, job, world): every rank computes it and start-up
// compares hashes. Nothing else in the program divides layers or experts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/ops/attention.h"
#include "kernels/ops/tree_sum.h"
#include "lib/config/job_config.h"
#include "lib/config/model_config.h"

namespace nemo::dist {

/// world size = replicas * pipeline * expert.
struct Layout {
  int64_t replicas = 1;
  int64_t pipeline = 1;  ///< P stages
  int64_t expert = 1;    ///< E expert ranks = lanes of a replica
  int64_t num_ranks() const { return replicas * pipeline * expert; }
  bool operator==(const Layout&) const = default;
};

/// Where a rank stands. rank = (replica * P + stage) * E + lane.
struct Position {
  int64_t replica = 0;
  int64_t stage = 0;
  int64_t lane = 0;
};

struct LayerRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const LayerRange&) const = default;
};

/// Everything in bytes unless named otherwise; what one rank of a stage needs.
struct StagePlan {
  LayerRange layers;
  double cost = 0;                       ///< estimated microseconds of one decoded token, its layers and head
  int64_t kv_bytes_per_token = 0;        ///< over the stage's attention layers
  int64_t state_bytes_per_sequence = 0;  ///< conv and SSM state over the stage's Mamba layers
  std::vector<int64_t> weight_bytes;     ///< by lane: experts may divide unevenly
  int64_t buffer_bytes = 0;              ///< activations, logits, exchange buffers for max_batch_tokens rows
};

/// A layout the planner looked at.
struct LayoutEstimate {
  Layout layout;
  /// Decoded by all ranks together, at the assumed rates of cost_model.h; 0 = does not fit.
  double tokens_per_s = 0;
};

struct Plan {
  Layout layout;
  std::vector<StagePlan> stages;  ///< P of them
  /// experts[layer][lane] for MoE layers, empty for others. Contiguous, in lane order, covering
  /// [0, n_routed_experts).
  std::vector<std::vector<kernels::ExpertRange>> experts;

  int64_t max_sequences = 0;     ///< slots of a lane, the same on all its stages
  int64_t max_batch_tokens = 0;  ///< rows of one step of one lane
  int64_t prefill_chunk = 0;     ///< rows one prompt may take in one step
  int64_t kv_pages = 0;  ///< pages of kernels::kKvPageTokens tokens per lane, the same on all its stages
  kernels::KvFormat kv_format = kernels::KvFormat::kBFloat16;  ///< what the pages hold
  int64_t threads = 1;                                         ///< per rank
  /// Tokens of a sequence, prompt and output, that slots and pages were sized for.
  int64_t typical_context = 0;

  /// What the fullest rank needs at the least: weights, the shortest steps, and room for the sequences the
  /// job fixes or for one typical sequence.
  int64_t least_bytes = 0;
  int64_t least_bytes_stage = 0;  ///< where that rank stands

  double tokens_per_s = 0;  ///< the chosen layout's estimate
  /// Every layout that keeps to what the job fixes, best first; front() is this plan's.
  std::vector<LayoutEstimate> considered;

  /// False only for a draft: then there are no slots and no pages, and everything else says how much is
  /// missing.
  bool fits() const { return max_sequences > 0; }
  /// Weights and buffers of a rank: what it needs before the first sequence arrives.
  int64_t fixed_bytes(int64_t stage, int64_t lane) const;
  /// Everything a rank of that stage and lane allocates: weights, buffers, slots and pages.
  int64_t rank_bytes(int64_t stage, int64_t lane) const;

  Position position(int64_t rank) const;
  int64_t rank(const Position& position) const;
  int64_t stage_of_layer(int64_t layer) const;
};

/// What the machine offers: given by MPI at run time, assumed by --plan.
struct Machine {
  int64_t num_ranks = 1;
  int64_t ranks_per_host = 1;        ///< the most on any host
  int64_t memory_per_rank = 0;       ///< bytes usable by one rank
  int64_t cores_per_rank = 1;        ///< at least 1, so more ranks than cores share what is there
  int64_t oversubscribed_cores = 0;  ///< of a host with fewer cores than ranks; 0 = there are enough

  int64_t cores_per_host() const {
    return oversubscribed_cores > 0 ? oversubscribed_cores : cores_per_rank * ranks_per_host;
  }
};

/// The best plan for this machine, honouring what the job fixes. Throws Error(kBadJob) for an impossible
/// request, naming why (too many stages, too many expert ranks, product differs from the number of ranks,
/// does not fit) and the nearest layouts that are possible.
Plan make_plan(const ModelConfig& model, const JobConfig& job, const Machine& machine);

/// The same, except that a plan which does not fit into memory comes back as a draft (fits() is false): the
/// layout that needs the least memory on its fullest rank. For --plan. Other impossible requests throw as in
/// make_plan.
Plan draft_plan(const ModelConfig& model, const JobConfig& job, const Machine& machine);

/// The smallest number of ranks of this memory that fits what the job fixes (machine.num_ranks is not looked
/// at); nothing if no number does, because one layer with all experts spread is too large already. Throws as
/// draft_plan.
std::optional<int64_t> smallest_num_ranks(const ModelConfig& model, const JobConfig& job,
                                          const Machine& machine);

/// A short text that is equal on two ranks exactly if they divide layers, experts and memory alike.
std::string plan_fingerprint(const Plan& plan);

/// Block `lane` of `num_experts` experts dealt to `num_lanes` ranks: contiguous, in lane order, sizes
/// differing by at most one, larger ones first. Where both numbers are powers of two every block is a subtree
/// of the combine's tree.
kernels::ExpertRange expert_block(int64_t num_experts, int64_t num_lanes, int64_t lane);

/// Bytes one token puts on the wire, expected for uniform routing and a token of any lane, mean over the MoE
/// layers.
struct WireBytes {
  /// One row of expert_io_size in the job's dtype and kDispatchHeaderBytes for each distinct other rank, and
  /// kRoutedExpertBytes for each expert there.
  double dispatch_per_moe_layer = 0;
  /// One float32 row of expert_io_size for each subtree root of another rank (kernels/ops/tree_sum.h).
  double combine_per_moe_layer = 0;
  int64_t per_stage_boundary = 0;  ///< one hidden row in the job's dtype and the token's id; 0 with one stage
  double ranks_per_moe_layer = 0;  ///< distinct other ranks a token is sent to
};
inline constexpr int64_t kDispatchHeaderBytes = 4;  ///< number of experts chosen there
inline constexpr int64_t kRoutedExpertBytes = 8;    ///< expert id and weight

WireBytes wire_bytes_per_token(const ModelConfig& model, const JobConfig& job, const Layout& layout);

}  // namespace nemo::dist
