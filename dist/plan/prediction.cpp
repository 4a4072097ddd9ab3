#include "dist/plan/prediction.h"

#include <algorithm>

#include "dist/plan/engine_sizes.h"
#include "kernels/error.h"

namespace nemo::dist {
namespace {

/// Steps that a lane has under way at most: a stage each.
int64_t steps_in_flight(const Plan& plan, int64_t most) {
  return std::min(plan.layout.pipeline, std::max<int64_t>(1, most));
}

/// Prompts fill whole steps: as many chunks as fit, each of a prompt's rows or of the longest chunk.
Workload prefill_workload(const Plan& plan, const Traffic& traffic) {
  const double prompt = static_cast<double>(traffic.prompt_tokens);
  const double chunk = static_cast<double>(std::min(traffic.prompt_tokens, plan.prefill_chunk));
  const double sequences =
      std::min(static_cast<double>(plan.max_batch_tokens) / chunk, static_cast<double>(plan.max_sequences));
  return {.sequences_per_step = sequences,
          .rows_per_sequence = chunk,
          .logit_rows_per_step = sequences * chunk / prompt,
          .mean_context = prompt / 2};
}

class Predictor {
 public:
  Predictor(const ModelConfig& model, const JobConfig& job, const Plan& plan, const Machine& machine,
            const Rates& rates)
      : plan_(plan),
        machine_(machine),
        rates_(rates),
        work_(model_work(model, storage_type(job))),
        memory_(model, storage_type(job), plan.kv_format, plan.layout.expert),
        wire_(wire_bytes_per_token(model, job, plan.layout)) {}

  PhasePrediction phase(const Workload& workload, int64_t num_in_flight) const {
    const CostModel model(work_, memory_, wire_, plan_.layout, machine_, plan_.threads,
                          static_cast<double>(num_in_flight), rates_);
    const StageCosts costs(model, workload);
    PhasePrediction phase{.rows_per_step = workload.rows()};
    for (const StagePlan& stage : plan_.stages) phase.stage_times.push_back(costs.time(stage.layers));
    const auto slowest = std::ranges::max_element(phase.stage_times, {}, &StepTime::occupied);
    phase.slowest_stage = static_cast<size_t>(slowest - phase.stage_times.begin());
    phase.interval = model.step_interval(phase.stage_times, static_cast<double>(num_in_flight));
    phase.tokens_per_s = static_cast<double>(plan_.layout.replicas * plan_.layout.expert) * workload.rows() /
                         phase.interval.seconds;
    return phase;
  }

 private:
  const Plan& plan_;
  const Machine& machine_;
  const Rates& rates_;
  std::vector<LayerWork> work_;
  MemoryModel memory_;
  WireBytes wire_;
};

}  // namespace

Traffic typical_traffic(const JobConfig& job, const ModelConfig& model,
                        std::optional<int64_t> prompt_tokens) {
  Traffic traffic;
  traffic.prompt_tokens =
      std::min(prompt_tokens.value_or(kTypicalPromptTokens), model.max_position_embeddings);
  traffic.output_tokens = typical_output_tokens(job);
  return traffic;
}

Prediction predict(const ModelConfig& model, const JobConfig& job, const Plan& plan, const Machine& machine,
                   const Traffic& traffic, const Rates& rates) {
  NEMO_CHECK(plan.fits() && traffic.prompt_tokens >= 1, "nothing to predict");
  const Predictor predictor(model, job, plan, machine, rates);
  const double context =
      static_cast<double>(traffic.prompt_tokens) + static_cast<double>(traffic.output_tokens) / 2;
  const int64_t decodes = steps_in_flight(plan, plan.max_sequences);
  return {
      .prefill = predictor.phase(prefill_workload(plan, traffic), plan.layout.pipeline),
      .decode = predictor.phase(decode_workload(plan.max_sequences, plan.layout.pipeline, context), decodes)};
}

}  // namespace nemo::dist
