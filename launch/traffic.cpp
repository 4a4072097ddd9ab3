#include "launch/traffic.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

namespace nemo::launch {

using dist::Tag;

namespace {

/// The last lane's last requests; a dead rank is noticed by MPI, a stalled one by the coordinator.
constexpr std::chrono::seconds kLongestTail = std::chrono::hours(2);
constexpr double kNano = 1e-9;

double bubbles_of(const dist::PipelineCounters& pipeline) {
  if (pipeline.steps == 0) return 0;
  const double step = static_cast<double>(pipeline.working.count()) / static_cast<double>(pipeline.steps);
  return static_cast<double>(pipeline.waiting.count()) / step;
}

std::string format(const char* pattern, auto... values) {
  std::array<char, 200> text{};
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

constexpr double kMega = 1e-6;

void add_exchange(TrafficReport& report, const Traffic& traffic, const dist::WireBytes& wire,
                  int64_t num_moe_layers, int64_t num_ranks) {
  const auto tokens = static_cast<double>(traffic.tokens);
  const auto ranks = static_cast<double>(num_ranks), layers = static_cast<double>(num_moe_layers);
  const double copies = static_cast<double>(traffic.copies) / tokens;
  const double expected_copies = layers * wire.ranks_per_moe_layer;
  const double bytes = static_cast<double>(traffic.exchange_bytes) / ranks;
  const double planned_bytes =
      tokens * layers * (wire.dispatch_per_moe_layer + wire.combine_per_moe_layer) / ranks;
  const double hidden = traffic.exchange_s > 0 ? 1 - traffic.exchange_wait_s / traffic.exchange_s : 0;
  report.figures.insert(report.figures.end(),
                        {{"copies_per_token", copies},
                         {"copies_per_token_expected", expected_copies},
                         {"exchange_bytes_per_rank", bytes},
                         {"exchange_bytes_per_rank_planned", planned_bytes},
                         {"exchange_hidden", hidden},
                         {"exchange_wait_s_per_rank", traffic.exchange_wait_s / ranks}});
  report.line = format(
      "exchange: %.2f copies a token (%.2f expected), %.1f MB a rank (%.1f planned), %.0f%% of "
      "its time behind compute",
      copies, expected_copies, kMega * bytes, kMega * planned_bytes, 100 * hidden);
}

void add_pipeline(TrafficReport& report, const Traffic& traffic, const dist::WireBytes& wire,
                  const dist::Layout& layout) {
  const auto ranks = static_cast<double>(layout.num_ranks());
  const double bytes = static_cast<double>(traffic.boundary_bytes) / ranks;
  const double planned_bytes =
      static_cast<double>(traffic.tokens * (layout.pipeline - 1) * wire.per_stage_boundary) / ranks;
  const double steps = static_cast<double>(traffic.steps) / ranks;
  const double bubbles = traffic.bubbles / ranks;
  report.figures.insert(report.figures.end(), {{"boundary_bytes_per_rank", bytes},
                                               {"boundary_bytes_per_rank_planned", planned_bytes},
                                               {"steps_per_rank", steps},
                                               {"bubble_steps_per_rank", bubbles}});
  report.line +=
      format("%spipeline: %.1f MB a rank (%.1f planned), bubbles of %.1f steps beside %.0f",
             report.line.empty() ? "" : "; ", kMega * bytes, kMega * planned_bytes, bubbles, steps);
}

}  // namespace

Traffic add_up_traffic(dist::Communicator& world, dist::ProcessGrid& grid, const dist::Stage& stage,
                       const dist::Engine& engine) {
  const dist::ExchangeCounters& exchange = stage.exchange_counters();
  const dist::PipelineCounters& pipeline = engine.counters();
  const double milli_bubbles = 1000 * bubbles_of(pipeline);
  const std::array<int64_t, 8> mine = {
      grid.is_first_stage() ? pipeline.rows : 0,
      exchange.copies,
      grid.lanes.bytes_posted(Tag::kDispatch) + grid.lanes.bytes_posted(Tag::kCombine),
      grid.stages.bytes_posted(Tag::kStep) + grid.stages.bytes_posted(Tag::kHidden),
      exchange.in_flight.count(),
      exchange.waiting.count(),
      pipeline.steps,
      static_cast<int64_t>(milli_bubbles)};
  const auto all = world.all_sum(mine, {"all ranks to finish", kLongestTail});
  return {.tokens = all[0],
          .copies = all[1],
          .exchange_bytes = all[2],
          .boundary_bytes = all[3],
          .exchange_s = static_cast<double>(all[4]) * kNano,
          .exchange_wait_s = static_cast<double>(all[5]) * kNano,
          .steps = all[6],
          .bubbles = static_cast<double>(all[7]) / 1000};
}

TrafficReport report_traffic(const Traffic& traffic, const ModelConfig& model, const JobConfig& job,
                             const dist::Layout& layout) {
  TrafficReport report;
  if (traffic.tokens == 0) return report;
  const dist::WireBytes wire = dist::wire_bytes_per_token(model, job, layout);
  const int64_t num_moe_layers = std::ranges::count(model.layers, LayerKind::kMoe, &LayerConfig::kind);
  if (layout.expert > 1 && num_moe_layers > 0)
    add_exchange(report, traffic, wire, num_moe_layers, layout.num_ranks());
  if (layout.pipeline > 1) add_pipeline(report, traffic, wire, layout);
  return report;
}

}  // namespace nemo::launch
