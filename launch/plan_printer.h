// What --plan prints: needs neither MPI nor weights.
#pragma once

#include <cstdint>
#include <string>

#include "dist/plan/plan.h"
#include "lib/config/job_config.h"
#include "lib/config/model_config.h"

namespace nemo::launch {

/// The machine --plan assumes: one rank a host; memory from limits.memory, or what this host has free; this
/// host's cores.
dist::Machine assume_machine(const JobConfig& job, int64_t num_ranks);

/// The ranks --plan assumes without --np: the product of pipeline, expert and replicas if the job fixes all
/// three, otherwise the fewest that fit, or what is fixed if no number fits. machine.num_ranks is not looked
/// at.
int64_t default_num_ranks(const ModelConfig& model, const JobConfig& job, const dist::Machine& machine);

/// The plan for people: lines of at most 100 columns, ending in a newline. A draft that does not fit is shown
/// too, with what would.
std::string plan_text(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                      const dist::Machine& machine);

/// The same for programs: one JSON object, indented, ending in a newline. Bytes are integers unless expected
/// values.
std::string plan_json(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                      const dist::Machine& machine);

}  // namespace nemo::launch
