#include "launch/plan_command.h"

#include <iostream>

#include "launch/exit_codes.h"
#include "launch/plan_printer.h"

namespace nemo::launch {

int print_plan(const CommandLine& line) {
  const JobConfig job = load_job_config(line.job_path, line.overrides);
  const ModelConfig model = load_model_config(job.model_path);
  dist::Machine machine = assume_machine(job, 1);
  machine.num_ranks = line.num_ranks.value_or(default_num_ranks(model, job, machine));
  const dist::Plan plan = dist::draft_plan(model, job, machine);
  std::cout << (line.json ? plan_json(model, job, plan, machine) : plan_text(model, job, plan, machine));
  return kExitDone;
}

}  // namespace nemo::launch
