#include "dist/plan/memory.h"

#include <gtest/gtest.h>

#include "kernels/ops/matmul.h"
#include "lib/config/parameter_count.h"
#include "lib/weights/tensor_names.h"
#include "tests/dist/plan/plan_fixtures.h"

namespace nemo::dist {
namespace {

using kernels::DType;
using kernels::PackedMatrix;

const char* const kPublished[] = {"nemotron-h-4b",
                                  "nemotron-h-8b",
                                  "nemotron-h-47b",
                                  "nemotron-h-56b",
                                  "nano-9b-v2",
                                  "nano-12b-v2",
                                  "nemotron-3-nano-4b",
                                  "nemotron-3-nano-30b-a3b",
                                  "cascade-2-30b-a3b",
                                  "nemotron-3.5-lightning-30b-a3b",
                                  "nemotron-3-super-120b-a12b",
                                  "nemotron-3-ultra-550b-a55b",
                                  "nemotron-ultra-253b"};

int64_t whole_weights(const ModelConfig& model, DType dtype, int64_t num_lanes, int64_t lane) {
  return MemoryModel(model, dtype, num_lanes).weight_bytes({0, model.num_layers()}, lane);
}

TEST(Memory, CountsEveryTensorAsItIsLoaded) {
  const ModelConfig model = small_model("ME*");
  const int64_t bf16 = 2, f32 = 4, hidden = 192, inner = 512, conv_dim = 512 + 2 * 2 * 32;
  const auto packed = [](int64_t n, int64_t k) { return PackedMatrix::packed_bytes(DType::kBFloat16, n, k); };
  const int64_t mamba = packed(inner + conv_dim + 16, hidden) + packed(hidden, inner) +
                        f32 * (hidden + conv_dim * (4 + 1) + 3 * 16 + inner);
  const int64_t moe_shared = PackedMatrix::packed_bytes(DType::kFloat32, 64, hidden) + f32 * (64 + hidden) +
                             packed(64, hidden) + packed(hidden, 64) + packed(128, hidden) +
                             packed(hidden, 128);
  const int64_t expert = 2 * packed(64, 64);
  const int64_t attention = packed(256, hidden) + 2 * packed(64, hidden) + packed(hidden, 256) + f32 * hidden;
  const int64_t embedding = 3072 * hidden * bf16;
  const int64_t head = packed(3072, hidden) + f32 * hidden;

  const MemoryModel memory(model, DType::kBFloat16, 3);
  EXPECT_EQ(memory.weight_bytes({0, 1}, 0), embedding + mamba);
  EXPECT_EQ(memory.weight_bytes({1, 2}, 0), moe_shared + 22 * expert);
  EXPECT_EQ(memory.weight_bytes({1, 2}, 1), moe_shared + 21 * expert);
  EXPECT_EQ(memory.weight_bytes({2, 3}, 2), attention + head);
  EXPECT_EQ(memory.weight_bytes({0, 3}, 0), embedding + mamba + moe_shared + 22 * expert + attention + head);
}

TEST(Memory, TiedHeadIsTheEmbeddingOnceMore) {
  ModelConfig model = small_model("M");
  const int64_t untied = whole_weights(model, DType::kBFloat16, 1, 0);
  model.tie_word_embeddings = true;
  EXPECT_EQ(whole_weights(model, DType::kBFloat16, 1, 0), untied);
}

TEST(Memory, QuantizedWeightsAreCountedAsTheyStay) {
  ModelConfig model = small_model("ME*M");
  const int64_t hidden = 192;
  const auto saved = [](StoredAs stored, int64_t n, int64_t k) {
    const bool is_fp8 = stored == StoredAs::kFp8;
    return PackedMatrix::packed_bytes(DType::kBFloat16, n, k) -
           PackedMatrix::packed_bytes(is_fp8 ? kernels::WeightFormat::kFp8 : kernels::WeightFormat::kNvfp4, n,
                                      k);
  };
  const MemoryModel plain(model, DType::kBFloat16, 1);
  AnnouncedQuantization announced;
  announced.others = StoredAs::kPlain;
  announced.listed = {{"layers.3.mixer.out_proj.weight", StoredAs::kFp8},
                      {"layers.1.mixer.experts.0.up_proj.weight", StoredAs::kNvfp4},
                      {"lm_head.weight", StoredAs::kNvfp4}};
  model.announced_quantization = {announced};
  const MemoryModel quantized(model, DType::kBFloat16, 1);
  EXPECT_EQ(quantized.layer(0).shared_weights, plain.layer(0).shared_weights);  // of layer 3's shape
  EXPECT_EQ(plain.layer(3).shared_weights - quantized.layer(3).shared_weights,
            saved(StoredAs::kFp8, hidden, 512));
  EXPECT_EQ(plain.layer(1).expert_weights - quantized.layer(1).expert_weights,
            saved(StoredAs::kNvfp4, 64, 64));
  EXPECT_EQ(plain.head_bytes() - quantized.head_bytes(), saved(StoredAs::kNvfp4, 3072, hidden));
  EXPECT_EQ(quantized.embedding_bytes(), plain.embedding_bytes());
}

TEST(Memory, PublishedWeightsAreTheirParametersAndLittlePadding) {
  for (const char* name : kPublished) {
    const ModelConfig model = published_model(name);
    const int64_t parameters = total_parameters(model);
    const int64_t bytes = whole_weights(model, DType::kBFloat16, 1, 0);
    EXPECT_GE(bytes, 2 * parameters) << name;
    EXPECT_LE(static_cast<double>(bytes), 2.02 * static_cast<double>(parameters)) << name;
    EXPECT_GE(whole_weights(model, DType::kFloat32, 1, 0), 4 * parameters) << name;
  }
}

TEST(Memory, LanesTogetherHoldTheSharedWeightsEachAndTheExpertsOnce) {
  for (const char* name : {"nemotron-3-nano-30b-a3b", "nemotron-3-super-120b-a12b"}) {
    const ModelConfig model = published_model(name);
    int64_t shared = whole_weights(model, DType::kBFloat16, 1, 0);
    const MemoryModel one(model, DType::kBFloat16, 1);
    for (int64_t i = 0; i < model.num_layers(); ++i)
      shared -= one.layer(i).num_experts * one.layer(i).expert_weights;
    for (const int64_t num_lanes : {2, 3, 8, 100}) {
      int64_t sum = 0;
      for (int64_t lane = 0; lane < num_lanes; ++lane)
        sum += whole_weights(model, DType::kBFloat16, num_lanes, lane);
      EXPECT_EQ(sum, whole_weights(model, DType::kBFloat16, 1, 0) + (num_lanes - 1) * shared)
          << name << num_lanes;
    }
  }
}

TEST(Memory, StagesTogetherAreTheWholeModel) {
  const ModelConfig model = published_model("nemotron-3-ultra-550b-a55b");
  const MemoryModel memory(model, DType::kBFloat16, 8);
  for (int64_t cut = 1; cut < model.num_layers(); ++cut)
    EXPECT_EQ(memory.weight_bytes({0, cut}, 3) + memory.weight_bytes({cut, model.num_layers()}, 3),
              memory.weight_bytes({0, model.num_layers()}, 3));
}

TEST(Memory, StateAndKeysOfPublishedModels) {
  struct Expected {
    const char* name;
    int64_t ssm_mib;  // float32
    int64_t kv_bytes_per_token;
  };
  for (const Expected& expected :
       {Expected{"nemotron-3-nano-30b-a3b", 46, 6144}, Expected{"nemotron-3-super-120b-a12b", 160, 8192},
        Expected{"nemotron-3-ultra-550b-a55b", 384, 12288}, Expected{"nano-9b-v2", 135, 16384},
        Expected{"nemotron-h-56b", 864, 40960}}) {
    const ModelConfig model = published_model(expected.name);
    const MemoryModel memory(model, DType::kBFloat16, 1);
    const LayerRange all{0, model.num_layers()};
    int64_t num_mamba = 0;
    for (const LayerConfig& layer : model.layers) num_mamba += layer.kind == LayerKind::kMamba ? 1 : 0;
    const int64_t conv = num_mamba * 3 * model.conv_dim() * 4;
    EXPECT_EQ(memory.state_bytes_per_sequence(all) - conv, expected.ssm_mib << 20) << expected.name;
    EXPECT_EQ(memory.kv_bytes_per_token(all), expected.kv_bytes_per_token) << expected.name;
    EXPECT_EQ(MemoryModel(model, DType::kFloat32, 1).kv_bytes_per_token(all),
              2 * expected.kv_bytes_per_token);
    const MemoryModel fp8(model, DType::kBFloat16, kernels::KvFormat::kFp8, 1);
    EXPECT_EQ(2 * fp8.kv_bytes_per_token(all), expected.kv_bytes_per_token);
    EXPECT_EQ(fp8.weight_bytes(all, 0), memory.weight_bytes(all, 0));
  }
}

TEST(Memory, GrowsWithTheStageAndWithTheStep) {
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    const ModelConfig model = random_model(random);
    const int64_t num_layers = model.num_layers();
    const MemoryModel memory(model, DType::kBFloat16, 2);
    const EngineSizes sizes{.max_sequences = 3, .max_batch_tokens = 16, .kv_pages = 5};
    for (int64_t begin = 0; begin < num_layers; ++begin)
      for (int64_t end = begin + 1; end < num_layers; ++end) {
        if (begin == 0 && end + 1 == num_layers) continue;  // one stage needs no boundary buffers
        EXPECT_LT(memory.rank_bytes({begin, end}, sizes), memory.rank_bytes({begin, end + 1}, sizes));
        EXPECT_LT(memory.buffer_bytes({begin, end}, 16), memory.buffer_bytes({begin, end}, 17));
      }
  }
}

}  // namespace
}  // namespace nemo::dist
