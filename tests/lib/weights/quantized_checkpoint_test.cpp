// What validation says about quantized tensors, and what their announcements mean.
#include <gtest/gtest.h>

#include <limits>
#include <optional>

#include "kernels/error.h"
#include "lib/weights/checkpoint.h"
#include "tests/lib/config/testing.h"
#include "tests/lib/weights/safetensors_writer.h"

namespace nemo {
namespace {

const std::string kExpert = "layers.1.mixer.experts.";

ModelConfig small_config(const std::string& members = "") {
  return parse_model_config(
      R"({"model_type":"nemotron_h","vocab_size":10,"hidden_size":32,"hybrid_override_pattern":"*E",)" +
          members +
          R"("num_attention_heads":2,"num_key_value_heads":1,"head_dim":2,"n_routed_experts":3,
    "moe_intermediate_size":16,"moe_shared_expert_intermediate_size":20})",
      "config.json");
}

/// How each matrix is stored: NVFP4 experts, an FP8 lm_head, all else BF16; and what is wrong with it.
struct Form {
  std::string left_out;
  std::string plain;  ///< a matrix that is BF16 after all
  float head_scale = 0.5f;
};

bool is_expert(const TensorSpec& spec) {
  return spec.split == Split::kByExpert;
}

class Writer {
 public:
  explicit Writer(Form form) : form_(std::move(form)) {}

  SafetensorsWriter write(const ModelConfig& config) {
    for (const TensorSpec& spec : model_tensors(config)) {
      if (!is_expert(spec)) {
        add_matrix(spec.name, spec.shape, spec.name == "lm_head.weight" ? StoredAs::kFp8 : StoredAs::kPlain);
        continue;
      }
      for (int64_t e = 0; e < spec.shape[0]; ++e)
        add_matrix(expert_tensor_name(spec.role, 1, e), {spec.shape[1], spec.shape[2]}, StoredAs::kNvfp4);
    }
    return std::move(writer_);
  }

 private:
  void add(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
    if (name != form_.left_out)
      writer_.add_zeros(name == "lm_head.weight" ? name : "backbone." + name, dtype, shape);
  }

  void add_matrix(const std::string& name, const std::vector<int64_t>& shape, StoredAs stored) {
    if (name == form_.plain || stored == StoredAs::kPlain) return add(name, DType::kBF16, shape);
    if (stored == StoredAs::kFp8) {
      add(name, DType::kF8E4M3, shape);
      writer_.add<float>(scale_tensor_name(name, ScaleKind::kWeight), DType::kF32, {}, {form_.head_scale});
      return;
    }
    add(name, DType::kU8, {shape[0], shape[1] / 2});
    add(scale_tensor_name(name, ScaleKind::kWeight), DType::kF8E4M3, {shape[0], shape[1] / 16});
    add(scale_tensor_name(name, ScaleKind::kWeight2), DType::kF32, {});
    add(scale_tensor_name(name, ScaleKind::kInput), DType::kF32, {});
  }

  Form form_;
  SafetensorsWriter writer_;
};

std::string refuse(const Form& form, const ModelConfig& config = small_config()) {
  const TemporaryFolder folder;
  Writer(form).write(config).write(folder / "model.safetensors");
  std::string error = error_of([&] { Checkpoint::open(folder.path(), config).scale("lm_head.weight"); });
  for (size_t at = 0; (at = error.find(folder.path())) != std::string::npos;)
    error.erase(at, folder.path().size()).insert(at, 1, 'F');
  return error;
}

TEST(QuantizedCheckpoint, EachTensorDecidesForItself) {
  const ModelConfig config = small_config();
  const TemporaryFolder folder;
  Writer({}).write(config).write(folder / "model.safetensors");
  const Checkpoint checkpoint = Checkpoint::open(folder.path(), config);
  EXPECT_EQ(checkpoint.stored_as("lm_head.weight"), StoredAs::kFp8);
  EXPECT_EQ(checkpoint.scale("lm_head.weight"), 0.5f);
  EXPECT_EQ(checkpoint.stored_as(kExpert + "2.up_proj.weight"), StoredAs::kNvfp4);
  EXPECT_EQ(checkpoint.shape(kExpert + "2.up_proj.weight"), (std::vector<int64_t>{16, 32}));
  EXPECT_EQ(checkpoint.stored_as("layers.0.mixer.q_proj.weight"), StoredAs::kPlain);
  EXPECT_EQ(checkpoint.scale("layers.0.mixer.q_proj.weight"), 1.0f);
}

TEST(QuantizedCheckpoint, NamesAMissingScaleAndItsMatrix) {
  EXPECT_EQ(
      refuse({.left_out = kExpert + "1.up_proj.weight_scale"}),
      "F: missing 1 tensor: layers.1.mixer.experts.1.up_proj.weight_scale F8_E4M3 [16, 2], the scale of "
      "backbone.layers.1.mixer.experts.1.up_proj.weight in F/model.safetensors (are config.json and the "
      "weights of the same model?)");
  EXPECT_NE(refuse({.left_out = kExpert + "1.up_proj.weight_scale_2"}).find("up_proj.weight_scale_2 F32 []"),
            std::string::npos);
}

TEST(QuantizedCheckpoint, RefusesScalesThatAreNone) {
  EXPECT_NE(refuse({.head_scale = std::numeric_limits<float>::quiet_NaN()})
                .find("F/model.safetensors: tensor lm_head.weight_scale: is nan, which is no scale"),
            std::string::npos);
  EXPECT_NE(refuse({.head_scale = -1.0f}).find("which is no scale"), std::string::npos);
}

TEST(QuantizedCheckpoint, RefusesExpertsOfALayerThatAreNotStoredAlike) {
  const std::string error = refuse({.plain = kExpert + "2.down_proj.weight"});
  EXPECT_NE(
      error.find("experts of a layer not stored alike: 1 tensor: "
                 "backbone.layers.1.mixer.experts.2.down_proj.weight is BF16 in F/model.safetensors, but "
                 "backbone.layers.1.mixer.experts.0.down_proj.weight is U8"),
      std::string::npos)
      << error;
}

TEST(QuantizedCheckpoint, RefusesWhatContradictsItsAnnouncement) {
  const std::string mixed =
      R"("quantization_config":{"quant_method":"modelopt","quant_algo":"MIXED_PRECISION",
    "quantized_layers":{"lm_head":{"quant_algo":"NVFP4"}}},)";
  EXPECT_EQ(refuse({}, small_config(mixed)),
            "F/model.safetensors: tensor lm_head.weight: is stored as F8_E4M3, but config.json: "
            "quantization_config announces NVFP4 for it (weights and announcement are of different releases; "
            "fetch the folder again)");
  const std::string silent =
      R"("quantization_config":{"quant_method":"modelopt","quant_algo":"MIXED_PRECISION",
    "quantized_layers":{"lm_head":{"quant_algo":"FP8"}}},)";
  EXPECT_NE(refuse({}, small_config(silent)).find("announces BF16, F16 or F32 for it"), std::string::npos);
  const std::string uniform = R"("quantization_config":{"quant_method":"modelopt","quant_algo":"NVFP4",
    "ignore":["lm_head","backbone.layers.0*"]},)";
  EXPECT_NE(refuse({}, small_config(uniform)).find("lm_head.weight: is stored as F8_E4M3"),
            std::string::npos);
}

/// What kv_scale gives for a file's tensor of that type, shape and value; `error` if it throws one.
struct KvScaleRead {
  std::optional<float> scale;
  std::string error;
};
KvScaleRead read_kv_scale(DType dtype, const std::vector<int64_t>& shape, const std::vector<float>& values) {
  const ModelConfig config = small_config();
  const TemporaryFolder folder;
  SafetensorsWriter writer = Writer({}).write(config);
  writer.add<float>("backbone.layers.0.mixer.k_proj.k_scale", dtype, shape, values);
  writer.write(folder / "model.safetensors");
  const Checkpoint checkpoint = Checkpoint::open(folder.path(), config);  // wants no scale, and refuses none
  EXPECT_EQ(checkpoint.kv_scale("layers.0.mixer.v_proj.v_scale"), std::nullopt);
  try {
    return {checkpoint.kv_scale("layers.0.mixer.k_proj.k_scale"), ""};
  } catch (const Error& error) {
    return {std::nullopt, std::string(error.what()).substr(folder.path().size())};
  }
}

TEST(KvScales, AreOneFiniteAndPositiveFloatOrAbsent) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(read_kv_scale(DType::kF32, {}, {0.25f}).scale, 0.25f);
  EXPECT_EQ(read_kv_scale(DType::kF32, {1}, {0.25f}).scale, 0.25f);
  EXPECT_EQ(
      read_kv_scale(DType::kBF16, {2}, {1.0f}).error,
      "/model.safetensors: tensor backbone.layers.0.mixer.k_proj.k_scale: is BF16 [2], but the scale of a KV "
      "cache is one F32 (fetch the file again, or take another export)");
  for (const float wrong : {0.0f, -1.0f, infinity, std::numeric_limits<float>::quiet_NaN()}) {
    const std::string error = read_kv_scale(DType::kF32, {}, {wrong}).error;
    EXPECT_TRUE(error.starts_with("/model.safetensors: tensor backbone.layers.0.mixer.k_proj.k_scale: is "))
        << error;
    EXPECT_NE(error.find("finite and positive"), std::string::npos) << error;
  }
}

TEST(Announcements, OfAnFp8KvCache) {
  const auto announces = [](const std::string& members) {
    return announces_fp8_kv_cache(
        small_config(R"("quantization_config":{"quant_algo":"FP8",)" + members + "},")
            .announced_quantization);
  };
  EXPECT_TRUE(announces(R"("kv_cache_quant_algo":"FP8")"));
  EXPECT_TRUE(announces(R"("kv_cache_scheme":{"dynamic":false,"num_bits":8,"type":"float"})"));
  EXPECT_FALSE(announces(R"("kv_cache_quant_algo":null)"));
  EXPECT_FALSE(announces(R"("kv_cache_scheme":{"dynamic":false,"num_bits":8,"type":"int"})"));
  EXPECT_FALSE(announces(R"("kv_cache_scheme":{"num_bits":"many","type":"float"})"));
  EXPECT_FALSE(announces_fp8_kv_cache({}));
}

TEST(Announcements, UniformWithExclusionsAndPatterns) {
  const ModelConfig config =
      small_config(R"("quantization_config":{"quant_method":"modelopt","quant_algo":"NVFP4",
    "ignore":["lm_head","backbone.layers.0*","mtp*"]},)");
  EXPECT_EQ(announced_storage(config, "lm_head.weight"), StoredAs::kPlain);
  EXPECT_EQ(announced_storage(config, "embeddings.weight"), StoredAs::kPlain);
  EXPECT_EQ(announced_storage(config, "layers.0.mixer.q_proj.weight"), StoredAs::kPlain);
  EXPECT_EQ(announced_storage(config, kExpert + "2.up_proj.weight"), StoredAs::kNvfp4);
}

TEST(Announcements, MixedGroupsAndNothing) {
  const ModelConfig mixed =
      small_config(R"("quantization_config":{"quant_algo":"MIXED_PRECISION","quantized_layers":
    {"backbone.embeddings":{"quant_algo":"W4A16_NVFP4","group_size":16},"lm_head":{"quant_algo":"FP8"}}},)");
  EXPECT_EQ(announced_storage(mixed, "embeddings.weight"), StoredAs::kNvfp4);
  EXPECT_EQ(announced_storage(mixed, "lm_head.weight"), StoredAs::kFp8);
  EXPECT_EQ(announced_storage(mixed, kExpert + "2.up_proj.weight"), StoredAs::kPlain);
  const ModelConfig groups = small_config(R"("quantization_config":{"quant_method":"modelopt","config_groups":
    {"group_0":{"weights":{"num_bits":8,"type":"float"},"targets":["Linear"]}}},)");
  EXPECT_EQ(announced_storage(groups, kExpert + "2.up_proj.weight"), StoredAs::kFp8);
  EXPECT_EQ(announced_storage(small_config(), kExpert + "2.up_proj.weight"), StoredAs::kPlain);
}

TEST(Announcements, RefuseWhatTheyCannotMean) {
  const auto error = [](const std::string& members) {
    return error_of([&] { small_config(R"("quantization_config":{)" + members + "},"); });
  };
  EXPECT_NE(error(R"("quant_algo":"NVFP4","group_size":32)").find("group_size: 32 is not supported"),
            std::string::npos);
  EXPECT_NE(error(R"("quantized_layers":{"lm_head":{"quant_algo":"INT4"}})")
                .find("quantized_layers.lm_head: quant_algo: \"INT4\" is not supported"),
            std::string::npos);
}

}  // namespace
}  // namespace nemo
