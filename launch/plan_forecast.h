// How fast a plan will be, for people and programs: the prediction, what holds it up, and what one more host
// would bring.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "dist/plan/prediction.h"
#include "launch/plan_options.h"
#include "launch/text_sheet.h"

namespace nemo::launch {

/// The same job on more hosts.
struct NextStep {
  int64_t num_hosts = 0;
  dist::Layout layout;
  dist::Prediction prediction;
};

struct Forecast {
  dist::Rates rates;
  dist::Traffic traffic;
  int64_t num_hosts = 1;
  std::optional<dist::Prediction> prediction;  ///< nothing if the plan does not fit
  /// One more host; and if that does not help, the fewest that do, of the next kHostsAhead. Empty if the job
  /// fixes the layout.
  std::vector<NextStep> next;
};

Forecast make_forecast(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                       const dist::Machine& machine, const PlanOptions& options, const dist::Rates& rates);

/// One line of --plan --np 16,64,256.
struct TableRow {
  int64_t num_ranks = 0;
  std::string refusal;  ///< why there is no plan; empty if there is one
  dist::Layout layout;
  int64_t bytes_per_rank = 0;  ///< of the fullest; what it needs at the least if it does not fit
  std::optional<dist::Prediction> prediction;  ///< nothing if it does not fit
};
TableRow make_table_row(const ModelConfig& model, const JobConfig& job, const dist::Machine& machine,
                        const dist::Traffic& traffic, const dist::Rates& rates);

/// "reading weights".
std::string resource_text(dist::Resource resource);

void print_forecast(Sheet& sheet, const dist::Plan& plan, const Forecast& forecast);
nlohmann::ordered_json forecast_json(const Forecast& forecast);

/// Lines of at most 100 columns, ending in a newline.
std::string table_text(const std::vector<TableRow>& rows, const dist::Traffic& traffic,
                       const dist::Rates& rates);
std::string table_json(const std::vector<TableRow>& rows, const dist::Traffic& traffic,
                       const dist::Rates& rates);

}  // namespace nemo::launch
