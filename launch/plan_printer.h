// What --plan prints: needs neither MPI nor weights.
#pragma once

#include <cstdint>
#include <string>

#include "dist/plan/plan.h"
#include "launch/plan_forecast.h"
#include "launch/plan_options.h"
#include "lib/config/job_config.h"
#include "lib/config/model_config.h"

namespace nemo::launch {

/// The machine --plan assumes: memory from limits.memory, or a rank's share of the host's; hosts like this
/// one where the options say nothing else.
dist::Machine assume_machine(const JobConfig& job, const PlanOptions& options, int64_t num_ranks);

/// "1 x 4 x 4": replicas x pipeline x expert.
std::string layout_text(const dist::Layout& layout);

/// The ranks --plan assumes without --np: the product of pipeline, expert and replicas if the job fixes all
/// three, otherwise the fewest that fit, or what is fixed if no number fits. machine.num_ranks is not looked
/// at.
int64_t default_num_ranks(const ModelConfig& model, const JobConfig& job, const dist::Machine& machine);

/// The plan for people: lines of at most 100 columns, ending in a newline. A draft that does not fit is shown
/// too, with what would.
std::string plan_text(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                      const dist::Machine& machine, const Forecast& forecast);

/// The same for programs: one JSON object, indented, ending in a newline. Bytes are integers unless expected
/// values.
std::string plan_json(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                      const dist::Machine& machine, const Forecast& forecast);

}  // namespace nemo::launch
