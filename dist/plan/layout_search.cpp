#include "dist/plan/layout_search.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "dist/plan/cost_model.h"
#include "dist/plan/engine_sizes.h"
#include "dist/plan/stage_cut.h"
#include "kernels/error.h"
#include "lib/state/state_cache.h"

namespace nemo::dist {
namespace {

/// Cuts made with room for so many sequences; the last ones make room at the price of balance.
std::vector<int64_t> sequence_targets(const SizeRules& rules) {
  if (rules.fixed.max_sequences) return {*rules.fixed.max_sequences};
  std::vector<int64_t> targets;
  for (int64_t n = 1; n < rules.auto_sequences; n *= 8) targets.push_back(n);
  targets.push_back(rules.auto_sequences);
  return targets;
}

/// Settles the stages and sizes of one layout.
class LayoutEvaluator {
 public:
  LayoutEvaluator(const ModelConfig& model, const JobConfig& job, const Machine& machine,
                  const std::vector<LayerWork>& layer_work, const MemoryModel& memory, const WireBytes& wire,
                  const Layout& layout, SearchWork& work)
      : model_(model),
        layout_(layout),
        memory_(memory),
        rules_(size_rules(model, job, layout, machine.memory_per_rank)),
        costs_(layer_work, memory, wire, layout, machine,
               std::min(threads_per_rank(job, machine), machine.cores_per_rank),
               static_cast<double>(layout.pipeline), Rates{}),
        work_(work) {}

  Candidate evaluate() {
    ++work_.num_layouts;
    std::optional<Candidate> best;
    for (const int64_t sequences : sequence_targets(rules_)) {
      const std::optional<StageCut> cut = balanced_cut(sequences);
      if (!cut) break;
      Candidate candidate = sized(cut->stages);
      if (candidate.sizes.max_sequences == 0) continue;
      if (!best || candidate.tokens_per_s > best->tokens_per_s) best = std::move(candidate);
      // A cut with room for more would only be worse balanced.
      if (best->sizes.max_sequences >= rules_.auto_sequences) break;
    }
    return best ? *best : draft();
  }

 private:
  Workload workload(int64_t num_sequences) const {
    return decode_workload(num_sequences, layout_.pipeline, rules_.mean_decode_context);
  }

  StageCutProblem problem() const {
    StageCutProblem problem;
    problem.num_layers = model_.num_layers();
    problem.num_stages = layout_.pipeline;
    // What an attention or MoE layer leads to is a Mamba layer: stages begin with one in every published
    // model.
    for (const LayerConfig& layer : model_.layers)
      problem.good_end.push_back(layer.kind == LayerKind::kMoe || layer.kind == LayerKind::kMlp);
    return problem;
  }

  /// The fastest cut whose stages have room for so many sequences.
  std::optional<StageCut> balanced_cut(int64_t num_sequences) {
    const EngineSizes least = modest_sizes(rules_, num_sequences);
    const StageCosts costs(costs_, workload(rules_.fixed.max_sequences.value_or(rules_.auto_sequences)));
    StageCutProblem cut = problem();
    cut.cost = [&](LayerRange range) { return costs.seconds(range); };
    cut.fits = [&](LayerRange range) { return memory_.rank_bytes(range, least) <= rules_.memory_per_rank; };
    return cut_stages(cut, &work_.num_ranges);
  }

  Candidate sized(const std::vector<LayerRange>& stages) const {
    Candidate candidate{.layout = layout_, .stages = stages};
    candidate.sizes = largest_sizes(memory_, stages, rules_);
    estimate(candidate);
    return candidate;
  }

  /// Nothing fits: the cut that needs the least memory for one sequence.
  Candidate draft() {
    const EngineSizes least = modest_sizes(rules_, 1);
    StageCutProblem cut = problem();
    cut.cost = [&](LayerRange range) { return static_cast<double>(memory_.rank_bytes(range, least)); };
    cut.fits = [](LayerRange) { return true; };
    Candidate candidate{.layout = layout_, .stages = cut_stages(cut, &work_.num_ranges)->stages};
    candidate.sizes.max_batch_tokens = least.max_batch_tokens;
    estimate(candidate);
    for (const LayerRange& stage : candidate.stages)
      candidate.peak_bytes = std::max(candidate.peak_bytes, memory_.rank_bytes(stage, least));
    return candidate;
  }

  void estimate(Candidate& candidate) const {
    const int64_t num_sequences = candidate.sizes.max_sequences;
    const Workload step = workload(num_sequences);
    const StageCosts costs(costs_, step);
    std::vector<StepTime> times;
    for (const LayerRange& stage : candidate.stages) {
      times.push_back(costs.time(stage));
      candidate.stage_seconds.push_back(times.back().total());
      candidate.peak_bytes = std::max(candidate.peak_bytes, memory_.rank_bytes(stage, candidate.sizes));
    }
    candidate.rows_per_step = step.rows();
    candidate.tokens_per_s =
        num_sequences == 0 ? 0
                           : static_cast<double>(layout_.replicas * layout_.expert) * step.rows() /
                                 costs_.step_interval(times, static_cast<double>(num_sequences)).seconds;
  }

  const ModelConfig& model_;
  Layout layout_;
  const MemoryModel& memory_;
  SizeRules rules_;
  CostModel costs_;
  SearchWork& work_;
};

bool is_better(const Candidate& a, const Candidate& b) {
  const bool a_fits = a.sizes.max_sequences > 0, b_fits = b.sizes.max_sequences > 0;
  if (a_fits != b_fits) return a_fits;
  return a_fits ? a.tokens_per_s > b.tokens_per_s : a.peak_bytes < b.peak_bytes;
}

/// The assumed rates are no better than this: layouts closer than it to the best count as equally fast.
constexpr double kSameSpeed = 0.98;

/// Sorts the best to the front. Among equally fast ones that is the one whose ranks talk the least: fewest
/// lanes, then fewest stages, for a slow neighbour holds up nobody else there. Alike on every rank.
void sort_candidates(std::vector<Candidate>& candidates) {
  std::stable_sort(candidates.begin(), candidates.end(), is_better);
  const double enough = kSameSpeed * candidates.front().tokens_per_s;
  if (candidates.front().sizes.max_sequences == 0) return;
  const auto end = std::find_if(candidates.begin(), candidates.end(),
                                [&](const Candidate& candidate) { return candidate.tokens_per_s < enough; });
  const auto quietest = std::min_element(candidates.begin(), end, [](const Candidate& a, const Candidate& b) {
    return std::pair(a.layout.expert, a.layout.pipeline) < std::pair(b.layout.expert, b.layout.pipeline);
  });
  std::rotate(candidates.begin(), quietest, quietest + 1);
}

}  // namespace

int64_t threads_per_rank(const JobConfig& job, const Machine& machine) {
  return job.parallel.threads.value_or(machine.cores_per_rank);
}

std::vector<Candidate> search_layouts(const ModelConfig& model, const JobConfig& job, const Machine& machine,
                                      SearchWork* work) {
  NEMO_CHECK(machine.num_ranks >= 1 && machine.ranks_per_host >= 1 && machine.cores_per_rank >= 1, "machine");
  NEMO_CHECK(model.num_layers() >= 1, "a model without layers");
  check_engine_config(job);
  check_parallel_config(model, job, machine.num_ranks);
  const std::vector<LayerWork> layer_work = model_work(model, storage_type(job));
  SearchWork spent;
  std::vector<Candidate> candidates;
  std::optional<MemoryModel> memory;
  int64_t lanes_of_memory = 0;
  WireBytes wire;
  for (const Layout& layout : possible_layouts(model, job.parallel, machine.num_ranks)) {
    if (layout.expert != lanes_of_memory) {
      memory.emplace(model, storage_type(job), kv_format(job), layout.expert);
      lanes_of_memory = layout.expert;
    }
    wire = wire_bytes_per_token(model, job, layout);
    LayoutEvaluator evaluator(model, job, machine, layer_work, *memory, wire, layout, spent);
    candidates.push_back(evaluator.evaluate());
  }
  sort_candidates(candidates);
  if (work != nullptr) *work = spent;
  return candidates;
}

}  // namespace nemo::dist
