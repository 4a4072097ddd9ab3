// The figures of what ranks sent: measured and planned side by side, and none where nothing was sent.
#include "launch/traffic.h"

#include <gtest/gtest.h>

#include <map>

namespace nemo::launch {
namespace {

ModelConfig model_of_two_moe_layers() {
  ModelConfig model;
  model.hidden_size = 32;
  LayerConfig moe;
  moe.kind = LayerKind::kMoe;
  moe.n_routed_experts = moe.num_experts_per_tok =
      4;  // every token goes everywhere: nothing is left to chance
  moe.moe_intermediate_size = 16;
  model.layers = {moe, LayerConfig{}, moe};
  return model;
}

TEST(TrafficTest, MeasuredStandsBesidePlanned) {
  const Traffic traffic{.tokens = 10,
                        .copies = 20,
                        .exchange_bytes = 4000,
                        .boundary_bytes = 900,
                        .exchange_s = 4,
                        .exchange_wait_s = 1,
                        .steps = 8,
                        .bubbles = 2};
  const auto model = model_of_two_moe_layers();
  const dist::Layout layout{.pipeline = 2, .expert = 2};
  const TrafficReport report = report_traffic(traffic, model, {}, layout);
  std::map<std::string, double> figures(report.figures.begin(), report.figures.end());
  EXPECT_EQ(figures.at("copies_per_token"), 2);
  EXPECT_EQ(figures.at("copies_per_token_expected"), 2);  // one other rank, two layers
  EXPECT_EQ(figures.at("exchange_bytes_per_rank"), 1000);
  const dist::WireBytes wire = dist::wire_bytes_per_token(model, {}, layout);
  EXPECT_DOUBLE_EQ(figures.at("exchange_bytes_per_rank_planned"),
                   10 * 2 * (wire.dispatch_per_moe_layer + wire.combine_per_moe_layer) / 4);
  EXPECT_DOUBLE_EQ(figures.at("exchange_hidden"), 0.75);
  EXPECT_DOUBLE_EQ(figures.at("boundary_bytes_per_rank_planned"),
                   10.0 * static_cast<double>(wire.per_stage_boundary) / 4);
  EXPECT_DOUBLE_EQ(figures.at("steps_per_rank"), 2);
  EXPECT_DOUBLE_EQ(figures.at("bubble_steps_per_rank"), 0.5);
  EXPECT_NE(report.line.find("2.00 copies a token (2.00 expected)"), std::string::npos) << report.line;
  EXPECT_NE(report.line.find("bubbles of 0.5 steps beside 2"), std::string::npos) << report.line;
}

TEST(TrafficTest, NothingSentIsNothingReported) {
  const auto model = model_of_two_moe_layers();
  EXPECT_TRUE(report_traffic({.tokens = 10}, model, {}, {}).figures.empty());
  EXPECT_TRUE(report_traffic({.tokens = 10}, model, {}, {.replicas = 3}).line.empty());
  EXPECT_TRUE(report_traffic({}, model, {}, {.pipeline = 2, .expert = 2}).figures.empty());
}

}  // namespace
}  // namespace nemo::launch
