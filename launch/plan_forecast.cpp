#include "launch/plan_forecast.h"

#include <algorithm>

#include "kernels/error.h"
#include "launch/plan_printer.h"
#include "lib/state/state_cache.h"

namespace nemo::launch {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kHostsAhead = 8;
constexpr double kWorthwhile = 1.01;  // less is within what a prediction knows

int64_t hosts_of(const dist::Machine& machine) {
  return (machine.num_ranks + machine.ranks_per_host - 1) / machine.ranks_per_host;
}

bool helps(const dist::Prediction& more, const dist::Prediction& now) {
  return more.prefill.tokens_per_s > kWorthwhile * now.prefill.tokens_per_s ||
         more.decode.tokens_per_s > kWorthwhile * now.decode.tokens_per_s;
}

std::string change_text(double more, double now) {
  return text("%+.0f %%", 100 * (more / now - 1));
}

/// Nothing if it is the slowest stage.
std::string limit_text(dist::Limit limit) {
  switch (limit) {
    case dist::Limit::kSlowestStage:
      return "";
    case dist::Limit::kStepsAtOnce:
      return "too few sequences for the stages";
    case dist::Limit::kCores:
      return "ranks take turns on a host's cores";
  }
  return "";
}

/// "stage 3 of 4 is the slowest: 71 % reading weights, 20 % arithmetic".
std::string slowest_text(const dist::PhasePrediction& phase) {
  const dist::StepTime& time = phase.slowest();
  dist::StepTime rest = time;
  const dist::Resource first = time.largest();
  rest[first] = 0;
  const dist::Resource second = rest.largest();
  const auto share = [&](dist::Resource resource) {
    return text("%.0f %% ", 100 * time[resource] / time.total()) + resource_text(resource);
  };
  std::string line =
      phase.stage_times.size() == 1
          ? ""
          : text("stage %zu of %zu is the slowest: ", phase.slowest_stage, phase.stage_times.size());
  line += share(first);
  return 10 * time[second] < time.total() ? line : line + ", " + share(second);
}

std::string step_text(const dist::PhasePrediction& phase) {
  const double ms = 1e3 * phase.interval.seconds;
  return text("a lane's step of %.0f row%s ", phase.rows_per_step, phase.rows_per_step == 1 ? "" : "s") +
         (ms < 1000 ? text("every %.1f ms", ms) : text("every %.1f s", ms / 1e3));
}

void print_phase(Sheet& sheet, const std::string& label, const std::string& of,
                 const dist::PhasePrediction& phase) {
  sheet.entry(label, speed_text(phase.tokens_per_s) + " tokens/s of all ranks, " + of);
  const std::string limit = limit_text(phase.interval.limit);
  sheet.more(step_text(phase) + (limit.empty() ? "" : ": " + limit));
  sheet.more(slowest_text(phase));
}

/// What predict() takes for granted.
void print_assumptions(Sheet& sheet) {
  sheet.entry("predicted", "with every sequence's place taken, experts chosen at random, all equally often,");
  sheet.more("and hosts that do nothing else");
}

void print_next(Sheet& sheet, const Forecast& forecast) {
  if (forecast.next.empty()) {
    sheet.entry("next host", "the job's parallel section has no use for it");
    return;
  }
  bool is_first = true;
  for (const NextStep& step : forecast.next) {
    const int64_t more = step.num_hosts - forecast.num_hosts;
    sheet.entry(
        is_first ? "next host" : "",
        "with " + plural(more, "more host") + ", " + layout_text(step.layout) + ": prompts " +
            change_text(step.prediction.prefill.tokens_per_s, forecast.prediction->prefill.tokens_per_s) +
            ", generation " +
            change_text(step.prediction.decode.tokens_per_s, forecast.prediction->decode.tokens_per_s));
    is_first = false;
  }
}

std::string host_rates_text(const dist::Calibration& host) {
  if (host.is_measured()) return "measured, " + host.source;
  const dist::KernelRates& core = host.runs.front();
  const double flops = 2 / (core.products[0].at(2) - core.products[0].at(1));
  return text("assumed, not measured: a core reads %.0f GB/s and computes %.0f GFLOP/s",
              core[dist::Rate::kReadBytes] / 1e9, flops / 1e9);
}

std::string network_text(const dist::MessageCost& network) {
  return text("between hosts %.3g us a message and %.3g GB/s a host", network.latency_s * 1e6,
              network.bytes_per_s / 1e9);
}

void print_rates(Sheet& sheet, const dist::Rates& rates) {
  sheet.entry("rates", host_rates_text(rates.host));
  if (rates.host.is_measured())
    sheet.more(text("on %s with %s, up to %ld threads", rates.host.processor.substr(0, 50).c_str(),
                    rates.host.instruction_set.substr(0, 16).c_str(), rates.host.runs.back().threads));
  sheet.more(network_text(rates.network));
}

Json rates_json(const dist::Rates& rates) {
  return {{"calibration", rates.host.is_measured() ? Json(rates.host.source) : Json("assumed")},
          {"processor", rates.host.processor},
          {"instruction_set", rates.host.instruction_set},
          {"network_latency_s", rates.network.latency_s},
          {"network_bytes_per_s", rates.network.bytes_per_s}};
}

Json phase_json(const dist::PhasePrediction& phase) {
  Json stages = Json::array();
  for (const dist::StepTime& time : phase.stage_times) {
    Json parts;
    for (size_t i = 0; i < dist::kNumResources; ++i)
      parts[resource_text(static_cast<dist::Resource>(i))] = time.seconds[i];
    stages.push_back({{"step_s", time.total()}, {"parts_s", std::move(parts)}});
  }
  const std::string limit = limit_text(phase.interval.limit);
  return {{"tokens_per_s", phase.tokens_per_s},
          {"rows_per_step", phase.rows_per_step},
          {"step_interval_s", phase.interval.seconds},
          {"limit", limit.empty() ? "the slowest stage" : limit},
          {"slowest_stage", phase.slowest_stage},
          {"bottleneck", resource_text(phase.slowest().largest())},
          {"stages", std::move(stages)}};
}

Json traffic_json(const dist::Traffic& traffic) {
  return {{"prompt_tokens", traffic.prompt_tokens}, {"output_tokens", traffic.output_tokens}};
}

}  // namespace

std::string resource_text(dist::Resource resource) {
  switch (resource) {
    case dist::Resource::kWeights:
      return "reading weights";
    case dist::Resource::kArithmetic:
      return "arithmetic";
    case dist::Resource::kSequences:
      return "KV and states";
    case dist::Resource::kCalls:
      return "starting kernels";
    case dist::Resource::kExchange:
      return "exchange of lanes";
    case dist::Resource::kTransfer:
      return "stage transfers";
  }
  return "";
}

Forecast make_forecast(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                       const dist::Machine& machine, const PlanOptions& options, const dist::Rates& rates) {
  Forecast forecast{.rates = rates,
                    .traffic = dist::typical_traffic(job, model, options.prompt_tokens),
                    .num_hosts = hosts_of(machine),
                    .prediction = std::nullopt,
                    .next = {}};
  if (!plan.fits()) return forecast;
  forecast.prediction = dist::predict(model, job, plan, machine, forecast.traffic, rates);
  for (int64_t more = 1; more <= kHostsAhead; ++more) {
    dist::Machine larger = machine;
    larger.num_ranks = (forecast.num_hosts + more) * machine.ranks_per_host;
    const TableRow row = make_table_row(model, job, larger, forecast.traffic, rates);
    const bool does_help = row.prediction && helps(*row.prediction, *forecast.prediction);
    if (row.prediction && (more == 1 || does_help))
      forecast.next.push_back({forecast.num_hosts + more, row.layout, *row.prediction});
    if (does_help) break;
  }
  return forecast;
}

TableRow make_table_row(const ModelConfig& model, const JobConfig& job, const dist::Machine& machine,
                        const dist::Traffic& traffic, const dist::Rates& rates) {
  TableRow row{.num_ranks = machine.num_ranks, .refusal = "", .layout = {}, .prediction = std::nullopt};
  try {
    const dist::Plan plan = dist::draft_plan(model, job, machine);
    row.layout = plan.layout;
    row.bytes_per_rank = plan.least_bytes;
    if (!plan.fits()) return row;
    row.bytes_per_rank = 0;
    for (int64_t stage = 0; stage < plan.layout.pipeline; ++stage)
      row.bytes_per_rank = std::max(row.bytes_per_rank, plan.rank_bytes(stage, 0));
    row.prediction = dist::predict(model, job, plan, machine, traffic, rates);
  } catch (const Error& error) {  // the parallel section cannot be met with so many
    row.refusal = error.what();
  }
  return row;
}

void print_forecast(Sheet& sheet, const dist::Plan& plan, const Forecast& forecast) {
  const dist::Prediction& prediction = *forecast.prediction;
  const dist::Traffic& traffic = forecast.traffic;
  print_assumptions(sheet);
  print_phase(sheet, "prompts", "prompts of " + plural(traffic.prompt_tokens, "token"), prediction.prefill);
  if (traffic.output_tokens > 0)
    print_phase(sheet, "generation",
                plural(plan.max_sequences, "sequence") + " of " +
                    grouped(traffic.prompt_tokens + traffic.output_tokens / 2) + " tokens a lane, KV in " +
                    std::string(kv_format_name(plan.kv_format)),
                prediction.decode);
  print_next(sheet, forecast);
  print_rates(sheet, forecast.rates);
}

Json forecast_json(const Forecast& forecast) {
  if (!forecast.prediction) return nullptr;
  Json next = Json::array();
  for (const NextStep& step : forecast.next)
    next.push_back({{"num_hosts", step.num_hosts},
                    {"layout", layout_text(step.layout)},
                    {"prefill_tokens_per_s", step.prediction.prefill.tokens_per_s},
                    {"decode_tokens_per_s", step.prediction.decode.tokens_per_s}});
  return {{"rates", rates_json(forecast.rates)},
          {"traffic", traffic_json(forecast.traffic)},
          {"prefill", phase_json(forecast.prediction->prefill)},
          {"decode", phase_json(forecast.prediction->decode)},
          {"next_hosts", std::move(next)}};
}

std::string table_text(const std::vector<TableRow>& rows, const dist::Traffic& traffic,
                       const dist::Rates& rates) {
  Sheet sheet;
  sheet.raw(text("%8s  %-16s %10s %11s %11s  %s", "ranks", "layout", "memory", "prompts", "generation",
                 "generation is held up by"));
  for (const TableRow& row : rows) {
    const std::string start = text("%8s  %-16s %10s", grouped(row.num_ranks).c_str(),
                                   row.refusal.empty() ? layout_text(row.layout).c_str() : "-",
                                   bytes_text(row.bytes_per_rank).c_str());
    if (!row.prediction) {
      sheet.raw(start + (row.refusal.empty()
                             ? "  does not fit: it needs that at the least"
                             : "  impossible; --np " + std::to_string(row.num_ranks) + " says why"));
      continue;
    }
    const dist::PhasePrediction& decode = row.prediction->decode;
    const std::string limit = limit_text(decode.interval.limit);
    sheet.raw(start +
              text(" %11s %11s  ", speed_text(row.prediction->prefill.tokens_per_s).c_str(),
                   speed_text(decode.tokens_per_s).c_str()) +
              (limit.empty()
                   ? text("stage %zu, ", decode.slowest_stage) + resource_text(decode.slowest().largest())
                   : limit));
  }
  sheet.raw(text("%8s  layout: replicas x stages x expert ranks; memory: of the fullest rank;", ""));
  sheet.raw(text("%8s  prompts (of %s tokens) and generation: tokens/s of all ranks together", "",
                 grouped(traffic.prompt_tokens).c_str()));
  sheet.blank();
  print_assumptions(sheet);
  print_rates(sheet, rates);
  return sheet.take();
}

std::string table_json(const std::vector<TableRow>& rows, const dist::Traffic& traffic,
                       const dist::Rates& rates) {
  Json entries = Json::array();
  for (const TableRow& row : rows) {
    Json entry = {{"num_ranks", row.num_ranks}, {"fits", row.prediction.has_value()}};
    if (!row.refusal.empty()) entry["error"] = row.refusal;
    if (row.refusal.empty()) entry["layout"] = layout_text(row.layout);
    if (row.refusal.empty()) entry["bytes_per_rank"] = row.bytes_per_rank;
    if (row.prediction) {
      entry["prefill"] = phase_json(row.prediction->prefill);
      entry["decode"] = phase_json(row.prediction->decode);
    }
    entries.push_back(std::move(entry));
  }
  const Json json = {
      {"rates", rates_json(rates)}, {"traffic", traffic_json(traffic)}, {"rows", std::move(entries)}};
  return json.dump(2) + "\n";
}

}  // namespace nemo::launch
