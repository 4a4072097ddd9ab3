// Every model of configs/models against the published number of parameters, to the unit.
#include "lib/config/parameter_count.h"

#include <gtest/gtest.h>

#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

struct Expected {
  std::string folder;
  int64_t total;
  int64_t mtp;
  int64_t active;
  int64_t active_with_embedding;
};

class ParameterCount : public testing::TestWithParam<Expected> {};

TEST_P(ParameterCount, EqualsThePublishedNumber) {
  const Expected& expected = GetParam();
  const ModelConfig config = load_model_config(source_path("configs/models/" + expected.folder));
  EXPECT_EQ(config.name, expected.folder);
  EXPECT_EQ(total_parameters(config), expected.total);
  EXPECT_EQ(mtp_parameters(config), expected.mtp);
  EXPECT_EQ(active_parameters(config), expected.active);
  EXPECT_EQ(active_parameters_with_embedding(config), expected.active_with_embedding);
}

/// All parameters of a dense model are active, but for the embedding.
Expected dense(const std::string& folder, int64_t total, int64_t hidden_size) {
  return {folder, total, 0, total - 131072 * hidden_size, total};
}

INSTANTIATE_TEST_SUITE_P(
    Published, ParameterCount,
    testing::Values(
        dense("nemotron-h-4b", 4489223040, 3072), dense("nemotron-h-8b", 8100852736, 4096),
        dense("nemotron-h-47b", 46791554816, 8192), dense("nemotron-h-56b", 56324350464, 8192),
        dense("nano-9b-v2", 8888227328, 4480), dense("nano-12b-v2", 12310001152, 5120),
        dense("nemotron-3-nano-4b", 3973556832, 3136),
        Expected{"nemotron-3-nano-30b-a3b", 31577940288, 0, 3227754816, 3580076352},
        Expected{"cascade-2-30b-a3b", 31577940288, 0, 3227754816, 3580076352},
        Expected{"nemotron-3.5-lightning-30b-a3b", 31577940288, 1335325952, 3227754816, 3580076352},
        Expected{"nemotron-3-super-120b-a12b", 120668707840, 2942325248, 12233366528, 12770237440},
        Expected{"nemotron-3-ultra-550b-a55b", 549308993536, 11215610368, 54985101312, 56058843136},
        Expected{"nemotron-ultra-253b", 253157007744, 6514833920, 25379561856, 26184868224}),
    [](const auto& model) {
      std::string name = model.param.folder;
      for (char& c : name) {
        if (c == '-' || c == '.') c = '_';
      }
      return name;
    });

TEST(LayerParameters, DivideIntoRoutedAndOthers) {
  const ModelConfig config = load_model_config(source_path("configs/models/nemotron-3-super-120b-a12b"));
  const LayerParameterCount moe = layer_parameters(config, config.layers[1]);
  EXPECT_EQ(moe.routed, int64_t{512} * 2 * 1024 * 2688);
  // router and its bias, shared expert, two latent projections, norm
  EXPECT_EQ(moe.total - moe.routed, 512 * 4096 + 512 + 2 * 4096 * 5376 + 2 * 4096 * 1024 + 4096);
  EXPECT_EQ(moe.total - moe.active, moe.routed / 512 * (512 - 22));
  const LayerParameterCount mamba = layer_parameters(config, config.layers[0]);
  EXPECT_EQ(mamba.routed, 0);
  EXPECT_EQ(mamba.active, mamba.total);
}

TEST(TotalParameters, CountsATiedMatrixOnce) {
  const std::string head =
      R"({"model_type":"nemotron_h","vocab_size":10,"hidden_size":8,"intermediate_size":4,)";
  const std::string tail = R"("hybrid_override_pattern":"-"})";
  const ModelConfig untied = parse_model_config(head + tail, "untied");
  const ModelConfig tied = parse_model_config(head + R"("tie_word_embeddings":true,)" + tail, "tied");
  EXPECT_EQ(total_parameters(untied) - total_parameters(tied), 80);
  EXPECT_EQ(active_parameters(untied), active_parameters(tied));
  EXPECT_EQ(active_parameters_with_embedding(tied), total_parameters(tied));
}

}  // namespace
}  // namespace nemo
