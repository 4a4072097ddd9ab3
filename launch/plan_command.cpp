#include "launch/plan_command.h"

#include <iostream>

#include "launch/exit_codes.h"
#include "launch/plan_forecast.h"
#include "launch/plan_printer.h"

namespace nemo::launch {

namespace {

std::string table(const ModelConfig& model, const JobConfig& job, const PlanOptions& options,
                  const dist::Rates& rates) {
  const dist::Traffic traffic = dist::typical_traffic(job, model, options.prompt_tokens);
  std::vector<TableRow> rows;
  for (const int64_t num_ranks : options.num_ranks)
    rows.push_back(make_table_row(model, job, assume_machine(job, options, num_ranks), traffic, rates));
  return options.json ? table_json(rows, traffic, rates) : table_text(rows, traffic, rates);
}

}  // namespace

int print_plan(const CommandLine& line) {
  const PlanOptions& options = line.plan;
  const JobConfig job = load_job_config(line.job_path, line.overrides);
  const ModelConfig model = load_model_config(job.model_path);
  const dist::Rates rates = load_rates(options);
  if (options.num_ranks.size() > 1) {
    std::cout << table(model, job, options, rates);
    return kExitDone;
  }
  dist::Machine machine = assume_machine(job, options, 1);
  machine.num_ranks =
      options.num_ranks.empty() ? default_num_ranks(model, job, machine) : options.num_ranks.front();
  const dist::Plan plan = dist::draft_plan(model, job, machine);
  const Forecast forecast = make_forecast(model, job, plan, machine, options, rates);
  std::cout << (options.json ? plan_json(model, job, plan, machine, forecast)
                             : plan_text(model, job, plan, machine, forecast));
  return kExitDone;
}

}  // namespace nemo::launch
