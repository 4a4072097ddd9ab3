// How fast a plan will be: tokens a second of prompts alone and of generation alone, and what holds it up.
// For
// --plan; no run depends on it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dist/plan/cost_model.h"
#include "dist/plan/plan.h"

namespace nemo::dist {

/// What the requests are like.
struct Traffic {
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
};
/// kTypicalPromptTokens unless given, outputs as slots are sized for.
Traffic typical_traffic(const JobConfig& job, const ModelConfig& model, std::optional<int64_t> prompt_tokens);

struct PhasePrediction {
  double tokens_per_s = 0;            ///< of all ranks
  double rows_per_step = 0;           ///< of one lane
  StepInterval interval;              ///< between the steps of a lane
  std::vector<StepTime> stage_times;  ///< of one step
  size_t slowest_stage = 0;

  const StepTime& slowest() const { return stage_times[slowest_stage]; }
};

struct Prediction {
  PhasePrediction prefill, decode;
};

/// Every slot taken, nothing preempted, each row's experts chosen at random. `plan` must fit.
Prediction predict(const ModelConfig& model, const JobConfig& job, const Plan& plan, const Machine& machine,
                   const Traffic& traffic, const Rates& rates);

}  // namespace nemo::dist
