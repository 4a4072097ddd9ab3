// Logical names over files of every spelling, exact conversions, and what validation says.
#include "lib/weights/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "lib/config/parameter_count.h"
#include "tests/lib/config/testing.h"
#include "tests/lib/weights/safetensors_writer.h"

namespace nemo {
namespace {

ModelConfig small_config(const std::string& members = "") {
  return parse_model_config(
      R"({"model_type":"nemotron_h","vocab_size":10,"hidden_size":4,"hybrid_override_pattern":"M*-E",
    "num_attention_heads":2,"num_key_value_heads":1,"head_dim":2,"mamba_num_heads":2,"mamba_head_dim":2,"n_groups":1,
    "ssm_state_size":2,"conv_kernel":2,"intermediate_size":6,"n_routed_experts":3,"moe_intermediate_size":5,)" +
          members + R"("moe_shared_expert_intermediate_size":7})",
      "config.json");
}

enum class Experts { kSeparate, kStacked };

/// How a file spells names.
struct Form {
  std::string prefix = "backbone.";
  std::string embedding = "embeddings.weight";
  Experts experts = Experts::kSeparate;
  DType dtype = DType::kBF16;
  std::set<std::string> left_out;  ///< logical names
};

std::string disk_name(const Form& form, const std::string& logical) {
  if (logical == "lm_head.weight") return logical;
  return form.prefix + (logical == "embeddings.weight" ? form.embedding : logical);
}

/// bfloat16 values 1.0, 2.0, ... would all be exact; so are these small integers in every type.
std::string filler(DType dtype, int64_t count, int64_t first) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>((first + i) % 128);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (dtype == DType::kF32) bytes.append(reinterpret_cast<const char*>(&bits), 4);
    if (dtype == DType::kBF16) bytes.append(reinterpret_cast<const char*>(&bits) + 2, 2);
  }
  return bytes;
}

SafetensorsWriter write_model(const ModelConfig& config, const Form& form) {
  SafetensorsWriter writer;
  for (const TensorSpec& spec : model_tensors(config)) {
    if (form.left_out.contains(spec.name)) continue;
    if (spec.split != Split::kByExpert || form.experts == Experts::kStacked) {
      writer.add_bytes(disk_name(form, spec.name), form.dtype, spec.shape,
                       filler(form.dtype, spec.num_elements(), 1));
      continue;
    }
    const int64_t size = spec.shape[1] * spec.shape[2];
    for (int64_t e = 0; e < spec.shape[0]; ++e) {
      const std::string name = expert_tensor_name(spec.role, 3, e);
      if (form.left_out.contains(name)) continue;
      writer.add_bytes(disk_name(form, name), form.dtype, {spec.shape[1], spec.shape[2]},
                       filler(form.dtype, size, 1 + e * size));
    }
  }
  return writer;
}

TEST(Spellings, AllFormsReadAlike) {
  const ModelConfig config = small_config();
  const std::vector<Form> forms = {
      {},
      {"model.", "embeddings.weight", Experts::kStacked, DType::kBF16, {}},
      {"model.", "embed_tokens.weight", Experts::kSeparate, DType::kF32, {}},
      {"language_model.backbone.", "embedding.weight", Experts::kStacked, DType::kF32, {}}};
  for (const Form& form : forms) {
    const TemporaryFolder folder;
    write_model(config, form).write(folder / "model.safetensors");
    const Checkpoint checkpoint = Checkpoint::open(folder.path(), config);
    EXPECT_EQ(checkpoint.bytes_read(), 0u);
    EXPECT_EQ(checkpoint.shape("embeddings.weight"), (std::vector<int64_t>{10, 4}));
    EXPECT_EQ(checkpoint.read_f32("embeddings.weight")[5], 6.0f);
    const std::string name = expert_tensor_name(TensorRole::kExpertDown, 3, 2);
    EXPECT_EQ(name, "layers.3.mixer.experts.2.down_proj.weight");
    EXPECT_EQ(checkpoint.shape(name), (std::vector<int64_t>{4, 5}));
    EXPECT_EQ(checkpoint.dtype(name), form.dtype);
    const std::vector<float> expert = checkpoint.read_f32(name);
    ASSERT_EQ(expert.size(), 20u);
    for (size_t i = 0; i < 20; ++i) EXPECT_EQ(expert[i], static_cast<float>(41 + i));
    EXPECT_EQ(checkpoint.read_bf16(name)[0], 0x4224);  // 41
  }
}

TEST(Rows, ReadNoMoreThanTheyAsk) {
  const ModelConfig config = small_config();
  const TemporaryFolder folder;
  write_model(config, {}).write(folder / "model.safetensors");
  const Checkpoint checkpoint = Checkpoint::open(folder.path(), config);
  std::vector<float> rows(8);
  checkpoint.read_rows_f32("embeddings.weight", 3, 5, rows);
  EXPECT_EQ(rows, (std::vector<float>{13, 14, 15, 16, 17, 18, 19, 20}));
  EXPECT_EQ(checkpoint.bytes_read(), 16u);
  std::vector<uint16_t> bits(4);
  checkpoint.read_rows_bf16("layers.3.mixer.experts.1.down_proj.weight", 0, 0, std::span(bits).first(0));
  EXPECT_EQ(checkpoint.bytes_read(), 16u);
  checkpoint.read_rows_bf16("lm_head.weight", 9, 10, bits);
  EXPECT_EQ(bits, (std::vector<uint16_t>{0x4214, 0x4218, 0x421c, 0x4220}));  // 37 to 40
  EXPECT_EQ(checkpoint.bytes_read(), 24u);
  EXPECT_NE(
      error_of([&] { checkpoint.read_rows_f32("embeddings.weight", 9, 11, rows); }).find("broken invariant"),
      std::string::npos);
  EXPECT_NE(error_of([&] {
              checkpoint.read_f32("layers.9.norm.weight");
            }).find("tensor layers.9.norm.weight: is not in the checkpoint"),
            std::string::npos);
}

TEST(TiedEmbeddings, TheHeadIsTheEmbedding) {
  const ModelConfig config = small_config(R"("tie_word_embeddings":true,)");
  const TemporaryFolder folder;
  SafetensorsWriter writer = write_model(config, {});
  writer.write(folder / "model.safetensors");
  EXPECT_EQ(Checkpoint::open(folder.path(), config).read_f32("lm_head.weight")[0], 1.0f);
  writer.add_zeros("lm_head.weight", DType::kBF16, {10, 4});  // stored twice: the embedding counts
  writer.write(folder / "model.safetensors");
  EXPECT_EQ(Checkpoint::open(folder.path(), config).read_f32("lm_head.weight")[0], 1.0f);
}

TEST(Ignorable, MtpAndCacheScalesMayBeThere) {
  const ModelConfig config = small_config();
  const TemporaryFolder folder;
  SafetensorsWriter writer = write_model(config, {});
  writer.add_zeros("mtp.layers.0.enorm.weight", DType::kBF16, {4});
  writer.add_zeros("backbone.layers.1.mixer.k_proj.k_scale", DType::kF32, {});
  writer.add_zeros("backbone.layers.1.mixer.v_proj.v_scale", DType::kF32, {});
  writer.write(folder / "model.safetensors");
  EXPECT_NO_THROW(Checkpoint::open(folder.path(), config));
}

std::string refuse(const SafetensorsWriter& writer, const ModelConfig& config = small_config()) {
  const TemporaryFolder folder;
  writer.write(folder / "model.safetensors");
  std::string error = error_of([&] { Checkpoint::open(folder.path(), config); });
  for (size_t at = 0; (at = error.find(folder.path())) != std::string::npos;)
    error.erase(at, folder.path().size()).insert(at, 1, 'F');
  return error;
}

TEST(Validation, NamesWhatIsMissing) {
  const ModelConfig config = small_config();
  EXPECT_EQ(refuse(write_model(config, {.left_out = {"norm_f.weight"}})),
            "F: missing 1 tensor: norm_f.weight [4] (are config.json and the weights of the same model?)");
  const std::string seven = refuse(write_model(
      config,
      {.left_out = {"norm_f.weight", "layers.0.norm.weight", "layers.1.norm.weight", "layers.2.norm.weight",
                    "layers.3.norm.weight", "layers.0.mixer.D", "layers.3.mixer.experts.2.up_proj.weight"}}));
  EXPECT_EQ(seven,
            "F: missing 7 tensors: norm_f.weight [4], layers.0.norm.weight [4], layers.0.mixer.D [2], "
            "layers.1.norm.weight "
            "[4], layers.2.norm.weight [4] and 2 more (are config.json and the weights of the same model?)");
}

TEST(Validation, NamesWhatIsMisshapenOrUnknown) {
  const ModelConfig config = small_config();
  SafetensorsWriter writer = write_model(config, {.left_out = {"norm_f.weight", "layers.0.mixer.D"}});
  writer.add_zeros("backbone.norm_f.weight", DType::kF32, {5});
  writer.add_zeros("backbone.layers.0.mixer.D", DType::kI32, {2});
  writer.add_zeros("backbone.layers.7.norm.weight", DType::kF32, {4});
  writer.add_zeros("vision.x", DType::kF32, {4});
  EXPECT_EQ(refuse(writer),
            "F: wrong type or shape of 2 tensors: backbone.norm_f.weight is F32 [5] but should be BF16, F16 "
            "or F32 [4] in "
            "F/model.safetensors, backbone.layers.0.mixer.D is I32 [2] but should be BF16, F16 or F32 [2] in "
            "F/model.safetensors; unknown 2 tensors: backbone.layers.7.norm.weight in F/model.safetensors, "
            "vision.x in "
            "F/model.safetensors (are config.json and the weights of the same model?)");
}

TEST(Validation, RefusesOneTensorUnderTwoNames) {
  SafetensorsWriter writer = write_model(small_config(), {});
  writer.add_zeros("model.norm_f.weight", DType::kBF16, {4});
  EXPECT_EQ(refuse(writer),
            "F/model.safetensors: tensor model.norm_f.weight: is the same as backbone.norm_f.weight in "
            "F/model.safetensors "
            "under another name (remove one of the two)");
}

// Small models of every variant, written by the reference implementation.
TEST(GoldenModels, OpenAndAddUp) {
  int num_models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/golden/models"))) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    const ModelConfig config = load_model_config(entry.path().string());
    EXPECT_TRUE(config.unknown_keys.empty()) << entry.path() << " " << config.unknown_keys.front();
    const Checkpoint checkpoint = Checkpoint::open(entry.path().string(), config);
    int64_t parameters = 0;
    for (const TensorSpec& spec : model_tensors(config)) {
      if (spec.split != Split::kByExpert) {
        parameters += static_cast<int64_t>(checkpoint.read_f32(spec.name).size());
        continue;
      }
      const int64_t layer = std::stoll(spec.name.substr(spec.name.find('.') + 1));
      for (int64_t e = 0; e < spec.shape[0]; ++e) {
        parameters +=
            static_cast<int64_t>(checkpoint.read_bf16(expert_tensor_name(spec.role, layer, e)).size());
      }
    }
    EXPECT_EQ(parameters, total_parameters(config)) << entry.path();
    ++num_models;
  }
  EXPECT_GE(num_models, 5);
}

TEST(TrainedCheckpoint, Opens) {
  const std::string folder = source_path("configs/checkpoints/kjv-wordnet-7m");
  const ModelConfig config = load_model_config(folder);
  EXPECT_TRUE(config.unknown_keys.empty()) << config.unknown_keys.front();
  EXPECT_NO_THROW(Checkpoint::open(folder, config));
}

}  // namespace
}  // namespace nemo
