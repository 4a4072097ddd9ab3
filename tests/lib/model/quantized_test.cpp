// A small model in mixed precision against its twin, the same numbers as BF16: both were written by
// tests/reference/quantize_checkpoint.py, with float scales that are powers of two, so that the twin is exact
// and a scale after the sum changes nothing.
#include <gtest/gtest.h>

#include <cstring>

#include "lib/model/serial_model.h"

namespace nemo {
namespace {

using kernels::WeightFormat;

std::string folder_of(const std::string& name) {
  return std::string(NEMO_SOURCE_DIR) + "/tests/golden/quantized/" + name;
}

std::vector<float> logits_of(const std::string& folder, kernels::DType dtype) {
  SerialModel model(folder, {.dtype = dtype, .threads = 2});
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 90; ++i) prompt.push_back((i * i + 7 * i + 3) % 96);
  const auto stream = model.forward(prompt);
  std::vector<float> logits(static_cast<size_t>(stream.rows * model.config().vocab_size));
  model.logits(stream, {logits.data(), stream.rows, model.config().vocab_size});
  return logits;
}

TEST(QuantizedModel, HasTheBitsOfItsTwin) {
  for (const kernels::DType dtype : {kernels::DType::kBFloat16, kernels::DType::kFloat32}) {
    const std::vector<float> quantized = logits_of(folder_of("latent-mixed"), dtype);
    const std::vector<float> twin = logits_of(folder_of("latent-mixed-bf16"), dtype);
    ASSERT_EQ(quantized.size(), twin.size());
    EXPECT_EQ(std::memcmp(quantized.data(), twin.data(), twin.size() * sizeof(float)), 0);
    float largest = 0;
    for (const float logit : quantized) largest = std::max(largest, std::abs(logit));
    EXPECT_GT(largest, 0.1f);  // something was computed
  }
}

TEST(QuantizedModel, KeepsEveryMatrixAsItIsStored) {
  const ModelConfig config = load_model_config(folder_of("latent-mixed"));
  EXPECT_EQ(config.quantization, "modelopt MIXED_PRECISION");
  const Checkpoint checkpoint = Checkpoint::open(folder_of("latent-mixed"), config);
  const auto layer = [&](int64_t i) {
    return load_layer(checkpoint, config, i, {3, 7}, kernels::DType::kBFloat16);
  };
  const Layer mamba = layer(0), moe = layer(1), attention = layer(3);
  EXPECT_EQ(std::get<Mamba2Layer>(mamba.mixer).in_proj.weight.format(), WeightFormat::kFp8);
  EXPECT_EQ(std::get<AttentionLayer>(attention.mixer).q_proj.weight.format(), WeightFormat::kBFloat16);
  const auto& experts = std::get<MoeLayer>(moe.mixer);
  EXPECT_EQ(experts.router.format(), WeightFormat::kFloat32);
  EXPECT_EQ(experts.shared->up_proj.weight.format(), WeightFormat::kNvfp4);
  EXPECT_EQ(experts.latent_in->weight.format(), WeightFormat::kBFloat16);
  ASSERT_EQ(experts.up.size(), 4u);
  EXPECT_EQ(experts.up[0].format(), WeightFormat::kNvfp4);
  EXPECT_EQ(experts.up[0].bytes(), 64 * (32 / 2 + 32 / 16));
  EXPECT_EQ(experts.down[0].format(), WeightFormat::kFp8);
  EXPECT_EQ(load_lm_head(checkpoint, config, kernels::DType::kBFloat16).weight.format(), WeightFormat::kFp8);
}

TEST(QuantizedModel, ReadsAsTheNumbersOfItsTwin) {
  const ModelConfig config = load_model_config(folder_of("latent-mixed"));
  const Checkpoint quantized = Checkpoint::open(folder_of("latent-mixed"), config);
  const Checkpoint twin =
      Checkpoint::open(folder_of("latent-mixed-bf16"), load_model_config(folder_of("latent-mixed-bf16")));
  for (const char* name :
       {"lm_head.weight", "layers.0.mixer.in_proj.weight", "layers.1.mixer.shared_experts.up_proj.weight",
        "layers.4.mixer.experts.15.up_proj.weight"}) {
    EXPECT_EQ(quantized.shape(name), twin.shape(name)) << name;
    EXPECT_EQ(quantized.read_f32(name), twin.read_f32(name)) << name;
    EXPECT_EQ(quantized.read_bf16(name), twin.read_bf16(name)) << name;
  }
}

}  // namespace
}  // namespace nemo
