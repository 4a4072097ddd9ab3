// The tensor table against the published checkpoints: numbers of tensors, names, shapes.
#include "lib/weights/tensor_names.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

ModelConfig published(const std::string& folder) {
  return load_model_config(source_path("configs/models/" + folder));
}

/// Tensors on disk in the published form: each expert's matrices are files' own tensors.
int64_t num_disk_tensors(const std::vector<TensorSpec>& specs) {
  int64_t count = 0;
  for (const TensorSpec& spec : specs) {
    const bool is_expert = spec.role == TensorRole::kExpertUp || spec.role == TensorRole::kExpertDown;
    count += is_expert ? spec.shape[0] : 1;
  }
  return count;
}

int64_t num_disk_tensors(const std::string& folder) {
  const ModelConfig config = published(folder);
  return num_disk_tensors(model_tensors(config)) + num_disk_tensors(mtp_tensors(config));
}

TEST(PublishedCheckpoints, HaveAsManyTensors) {
  EXPECT_EQ(num_disk_tensors("nemotron-3-nano-4b"), 263);
  EXPECT_EQ(num_disk_tensors("nemotron-3-super-120b-a12b"), 42683);
  EXPECT_EQ(num_disk_tensors("nemotron-3.5-lightning-30b-a3b"), 6513);
}

std::map<std::string, std::vector<int64_t>> shapes_of(const std::vector<TensorSpec>& specs) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorSpec& spec : specs) EXPECT_TRUE(shapes.emplace(spec.name, spec.shape).second) << spec.name;
  return shapes;
}

TEST(Table, NamesAndShapesOfSuper) {
  const ModelConfig config = published("nemotron-3-super-120b-a12b");
  const auto shapes = shapes_of(model_tensors(config));
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shapes.at("embeddings.weight"), (Shape{131072, 4096}));
  EXPECT_EQ(shapes.at("lm_head.weight"), (Shape{131072, 4096}));
  EXPECT_EQ(shapes.at("norm_f.weight"), (Shape{4096}));
  EXPECT_EQ(shapes.at("layers.0.norm.weight"), (Shape{4096}));
  EXPECT_EQ(shapes.at("layers.0.mixer.in_proj.weight"), (Shape{18560, 4096}));
  EXPECT_EQ(shapes.at("layers.0.mixer.conv1d.weight"), (Shape{10240, 1, 4}));
  EXPECT_EQ(shapes.at("layers.0.mixer.conv1d.bias"), (Shape{10240}));
  EXPECT_EQ(shapes.at("layers.0.mixer.A_log"), (Shape{128}));
  EXPECT_EQ(shapes.at("layers.0.mixer.norm.weight"), (Shape{8192}));
  EXPECT_EQ(shapes.at("layers.0.mixer.out_proj.weight"), (Shape{4096, 8192}));
  EXPECT_EQ(shapes.at("layers.1.mixer.gate.weight"), (Shape{512, 4096}));  // full hidden, never latent
  EXPECT_EQ(shapes.at("layers.1.mixer.gate.e_score_correction_bias"), (Shape{512}));
  EXPECT_EQ(shapes.at("layers.1.mixer.experts.up_proj"), (Shape{512, 2688, 1024}));
  EXPECT_EQ(shapes.at("layers.1.mixer.experts.down_proj"), (Shape{512, 1024, 2688}));
  EXPECT_EQ(shapes.at("layers.1.mixer.shared_experts.up_proj.weight"), (Shape{5376, 4096}));
  EXPECT_EQ(shapes.at("layers.1.mixer.fc1_latent_proj.weight"), (Shape{1024, 4096}));
  EXPECT_EQ(shapes.at("layers.1.mixer.fc2_latent_proj.weight"), (Shape{4096, 1024}));
  EXPECT_EQ(shapes.at("layers.7.mixer.q_proj.weight"), (Shape{4096, 4096}));
  EXPECT_EQ(shapes.at("layers.7.mixer.k_proj.weight"), (Shape{256, 4096}));
  const auto mtp = shapes_of(mtp_tensors(config));
  EXPECT_EQ(mtp.at("mtp.layers.0.eh_proj.weight"), (Shape{4096, 8192}));
  EXPECT_EQ(mtp.at("mtp.layers.1.final_layernorm.weight"), (Shape{4096}));
  EXPECT_FALSE(mtp.contains("mtp.layers.1.enorm.weight"));
  EXPECT_FALSE(mtp.contains("mtp.layers.0.final_layernorm.weight"));
}

TEST(Table, BiasesComeOnlyWhereTheConfigSaysSo) {
  const auto num_tensors = [](const std::string& members) {
    const std::string text = R"({"model_type":"nemotron_h","moe_latent_size":16,)" + members;
    return model_tensors(parse_model_config(text + R"("hybrid_override_pattern":"M*-E"})", "x")).size();
  };
  constexpr size_t kOuter = 3, kMamba = 9, kAttention = 5, kMlp = 3, kMoe = 9;  // experts stacked: 2 tensors
  EXPECT_EQ(num_tensors(""), kOuter + kMamba + kAttention + kMlp + kMoe);
  EXPECT_EQ(num_tensors(R"("use_conv_bias":false,)"), kOuter + kMamba - 1 + kAttention + kMlp + kMoe);
  EXPECT_EQ(num_tensors(R"("use_bias":true,"attention_bias":true,"mlp_bias":true,)"),
            kOuter + kMamba + 2 + kAttention + 4 + kMlp + 2 + kMoe + 4);
}

TEST(Table, SplitAndKeepSayWhoHoldsWhat) {
  const ModelConfig config = published("nemotron-3-nano-30b-a3b");
  for (const TensorSpec& spec : model_tensors(config)) {
    const bool is_expert = spec.name.find(".experts.") != std::string::npos;
    EXPECT_EQ(spec.split == Split::kByExpert, is_expert) << spec.name;
    const bool is_small =
        spec.shape.size() == 1 || spec.role == TensorRole::kConvWeight || spec.role == TensorRole::kRouter;
    EXPECT_EQ(spec.keep == Keep::kFloat32, is_small) << spec.name;
  }
}

TEST(Names, OfRoles) {
  EXPECT_EQ(tensor_name(TensorRole::kLmHead, 5), "lm_head.weight");
  EXPECT_EQ(tensor_name(TensorRole::kInProj, 5), "layers.5.mixer.in_proj.weight");
  EXPECT_EQ(expert_tensor_name(TensorRole::kExpertUp, 1, 7), "layers.1.mixer.experts.7.up_proj.weight");
  EXPECT_NE(error_of([] { expert_tensor_name(TensorRole::kSharedUp, 1, 7); }).find("broken invariant"),
            std::string::npos);
}

TEST(Names, EverySpellingBecomesLogical) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"backbone.layers.3.mixer.in_proj.weight", "layers.3.mixer.in_proj.weight"},
      {"model.layers.3.mixer.in_proj.weight", "layers.3.mixer.in_proj.weight"},
      {"language_model.backbone.layers.3.norm.weight", "layers.3.norm.weight"},
      {"language_model.lm_head.weight", "lm_head.weight"},
      {"backbone.embeddings.weight", "embeddings.weight"},
      {"backbone.embedding.weight", "embeddings.weight"},
      {"model.embed_tokens.weight", "embeddings.weight"},
      {"model.norm_f.weight", "norm_f.weight"},
      {"model.layers.1.mixer.experts.up_proj", "layers.1.mixer.experts.up_proj"},
      {"model.layers.1.mixer.experts.down_proj.weight", "layers.1.mixer.experts.down_proj"},
      {"backbone.layers.1.mixer.experts.7.up_proj.weight", "layers.1.mixer.experts.7.up_proj.weight"},
      {"backbone.layers.1.mixer.gate.e_score_correction_bias", "layers.1.mixer.gate.e_score_correction_bias"},
      {"model.layers.1.mixer.e_score_correction_bias", "layers.1.mixer.gate.e_score_correction_bias"},
      {"mtp.layers.0.enorm.weight", "mtp.layers.0.enorm.weight"},
      {"something.else", "something.else"},
      {"", ""}};
  for (const auto& [on_disk, logical] : cases) EXPECT_EQ(logical_tensor_name(on_disk), logical);
}

TEST(Names, ScalesAndIgnorables) {
  EXPECT_EQ(scale_tensor_name("a.weight", ScaleKind::kWeight), "a.weight_scale");
  EXPECT_EQ(scale_tensor_name("a.weight", ScaleKind::kWeight2), "a.weight_scale_2");
  EXPECT_EQ(scale_tensor_name("a.weight", ScaleKind::kInput), "a.input_scale");
  EXPECT_EQ(logical_tensor_name("model.embed_tokens.weight_scale"), "embeddings.weight_scale");
  EXPECT_TRUE(is_ignorable_tensor("mtp.layers.0.enorm.weight"));
  EXPECT_TRUE(is_ignorable_tensor("layers.5.mixer.k_proj.k_scale"));
  EXPECT_FALSE(is_ignorable_tensor("layers.5.mixer.k_proj.weight"));
}

}  // namespace
}  // namespace nemo
