#include <gtest/gtest.h>

#include <set>

#include "dist/plan/plan.h"
#include "tests/dist/plan/plan_fixtures.h"

namespace nemo::dist {
namespace {

TEST(ExpertBlock, CoversAllExpertsInOrderAndEvenly) {
  for (int64_t num_experts = 1; num_experts <= 70; ++num_experts)
    for (int64_t num_lanes = 1; num_lanes <= num_experts; ++num_lanes) {
      int64_t next = 0;
      for (int64_t lane = 0; lane < num_lanes; ++lane) {
        const kernels::ExpertRange block = expert_block(num_experts, num_lanes, lane);
        EXPECT_EQ(block.begin, next);
        EXPECT_GE(block.end - block.begin, num_experts / num_lanes);
        EXPECT_LE(block.end - block.begin, expert_block(num_experts, num_lanes, 0).end);
        EXPECT_LE(block.end - block.begin, (num_experts + num_lanes - 1) / num_lanes);
        next = block.end;
      }
      EXPECT_EQ(next, num_experts);
    }
}

TEST(ExpertBlock, PowersOfTwoAreSubtrees) {
  for (const int64_t num_lanes : {1, 2, 4, 8, 64, 512})
    for (int64_t lane = 0; lane < num_lanes; ++lane)
      EXPECT_EQ(kernels::maximal_subtrees(expert_block(512, num_lanes, lane), 512).size(), 1u);
}

/// The mean over all sets of top_k experts and all lanes, counted one by one.
WireBytes counted(const ModelConfig& model, int64_t num_lanes, int64_t row_bytes) {
  const LayerConfig& layer = model.layers[0];
  const int64_t num_experts = layer.n_routed_experts;
  WireBytes sum;
  int64_t num_cases = 0;
  for (uint32_t chosen = 0; chosen < (1u << num_experts); ++chosen) {
    if (__builtin_popcount(chosen) != layer.num_experts_per_tok) continue;
    for (int64_t home = 0; home < num_lanes; ++home, ++num_cases)
      for (int64_t lane = 0; lane < num_lanes; ++lane) {
        const kernels::ExpertRange block = expert_block(num_experts, num_lanes, lane);
        int64_t here = 0, roots = 0;
        for (const auto& subtree : kernels::maximal_subtrees(block, num_experts)) {
          int64_t in_subtree = 0;
          for (int64_t e = subtree.begin; e < subtree.end; ++e) in_subtree += (chosen >> e) & 1u;
          here += in_subtree;
          roots += in_subtree > 0 ? 1 : 0;
        }
        if (lane == home || here == 0) continue;
        sum.ranks_per_moe_layer += 1;
        sum.dispatch_per_moe_layer +=
            static_cast<double>(row_bytes + kDispatchHeaderBytes + here * kRoutedExpertBytes);
        sum.combine_per_moe_layer += static_cast<double>(roots * model.expert_io_size(layer) * 4);
      }
  }
  const auto mean = [&](double value) { return value / static_cast<double>(num_cases); };
  return {.dispatch_per_moe_layer = mean(sum.dispatch_per_moe_layer),
          .combine_per_moe_layer = mean(sum.combine_per_moe_layer),
          .ranks_per_moe_layer = mean(sum.ranks_per_moe_layer)};
}

TEST(WireBytes, EqualTheMeanOverAllRoutings) {
  for (const int64_t num_experts : {4, 6, 8, 9})
    for (const int64_t top_k : {1, 2, 3})
      for (const int64_t num_lanes : {1, 2, 3, 4}) {
        ModelConfig model = small_model("E");
        model.layers[0].n_routed_experts = num_experts;
        model.layers[0].num_experts_per_tok = top_k;
        const WireBytes expected = counted(model, num_lanes, 2 * 64);
        const WireBytes wire = wire_bytes_per_token(model, plain_job(), {.expert = num_lanes});
        EXPECT_NEAR(wire.ranks_per_moe_layer, expected.ranks_per_moe_layer, 1e-12);
        EXPECT_NEAR(wire.dispatch_per_moe_layer, expected.dispatch_per_moe_layer, 1e-9);
        EXPECT_NEAR(wire.combine_per_moe_layer, expected.combine_per_moe_layer, 1e-9);
      }
}

TEST(WireBytes, BoundaryIsOneHiddenRowAndTheTokensId) {
  JobConfig job = plain_job();
  EXPECT_EQ(wire_bytes_per_token(small_model(), job, {.pipeline = 1}).per_stage_boundary, 0);
  EXPECT_EQ(wire_bytes_per_token(small_model(), job, {.pipeline = 2}).per_stage_boundary, 192 * 2 + 4);
  job.dtype = ActivationType::kFloat32;
  EXPECT_EQ(wire_bytes_per_token(small_model(), job, {.pipeline = 2}).per_stage_boundary, 192 * 4 + 4);
}

TEST(WireBytes, DenseModelsExchangeNothing) {
  const WireBytes wire = wire_bytes_per_token(small_model("M-*-"), plain_job(), {.pipeline = 4});
  EXPECT_EQ(wire.dispatch_per_moe_layer, 0);
  EXPECT_EQ(wire.combine_per_moe_layer, 0);
}

TEST(WireBytes, LayersThatDifferAreAveraged) {
  ModelConfig model = small_model("EE");
  model.layers[1].num_experts_per_tok = 1;
  ModelConfig first = small_model("E"), second = small_model("E");
  second.layers[0].num_experts_per_tok = 1;
  const Layout layout{.expert = 4};
  const double mean = (wire_bytes_per_token(first, plain_job(), layout).combine_per_moe_layer +
                       wire_bytes_per_token(second, plain_job(), layout).combine_per_moe_layer) /
                      2;
  EXPECT_DOUBLE_EQ(wire_bytes_per_token(model, plain_job(), layout).combine_per_moe_layer, mean);
}

}  // namespace
}  // namespace nemo::dist
