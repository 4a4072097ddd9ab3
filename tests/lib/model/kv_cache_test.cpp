// The FP8 KV cache in a whole model: its scales, its closeness to bfloat16, and the same bits for any split
// of a prompt.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "lib/model/kv_scales.h"
#include "lib/model/serial_model.h"
#include "tests/lib/config/testing.h"
#include "tests/lib/weights/safetensors_writer.h"

namespace nemo {
namespace {

using kernels::DType;
using kernels::KvFormat;

const std::string kModel = source_path("tests/golden/models/dense");
constexpr int64_t kAttentionLayer = 2, kVocabulary = 96;

std::vector<float> logits_of(SerialModel& model, size_t chunk) {
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 150; ++i) prompt.push_back((i * i + 7 * i + 3) % kVocabulary);
  model.reset();
  std::vector<float> logits(prompt.size() * kVocabulary);
  for (size_t i = 0; i < prompt.size(); i += chunk) {
    const auto stream = model.forward(std::span(prompt).subspan(i, std::min(chunk, prompt.size() - i)));
    model.logits(stream, {logits.data() + i * kVocabulary, stream.rows, kVocabulary});
  }
  return logits;
}

std::vector<float> logits_of(const std::string& folder, DType dtype, KvFormat format) {
  SerialModel model(folder, {.dtype = dtype, .threads = 2, .kv_format = format});
  return logits_of(model, 150);
}

double rms_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - double{b[i]}, 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

/// The golden model with scales of its own beside its weights.
class KvCacheTest : public testing::Test {
 protected:
  std::string with_scales(float key, float value) {
    const std::string folder = folder_ / ("scales" + std::to_string(key) + std::to_string(value));
    std::filesystem::create_directory(folder);
    std::filesystem::copy_file(kModel + "/config.json", folder + "/config.json");
    std::filesystem::copy_file(kModel + "/model.safetensors", folder + "/weights.safetensors");
    const std::string prefix = "backbone.layers." + std::to_string(kAttentionLayer) + ".mixer.";
    const std::string key_name = prefix + "k_proj.k_scale", value_name = prefix + "v_proj.v_scale";
    SafetensorsWriter scales;
    scales.add<float>(key_name, nemo::DType::kF32, {}, {key});
    scales.add<float>(value_name, nemo::DType::kF32, {}, {value});
    scales.write(folder + "/scales.safetensors");
    nlohmann::json map = {{key_name, "scales.safetensors"}, {value_name, "scales.safetensors"}};
    const auto source = open_checkpoint(kModel);
    for (const std::string& name : source->names()) map[name] = "weights.safetensors";
    std::ofstream(folder + "/model.safetensors.index.json") << nlohmann::json{{"weight_map", map}};
    return folder;
  }

  TemporaryFolder folder_;
};

TEST_F(KvCacheTest, AnySplitOfThePromptGivesTheSameBits) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    SerialModel model(kModel, {.dtype = dtype, .threads = 2, .kv_format = KvFormat::kFp8});
    const std::vector<float> whole = logits_of(model, 150);
    for (const size_t chunk : {1, 7, 64}) {
      const std::vector<float> pieces = logits_of(model, chunk);
      EXPECT_EQ(std::memcmp(whole.data(), pieces.data(), whole.size() * sizeof(float)), 0) << chunk;
    }
  }
}

// Three bits of fraction: keys and values are off by 2 % of their size on average, in one of six layers.
TEST_F(KvCacheTest, IsCloseToTheOtherFormats) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const std::vector<float> exact = logits_of(kModel, dtype, kernels::kv_format(dtype));
    const double difference = rms_difference(logits_of(kModel, dtype, KvFormat::kFp8), exact);
    const double size = rms_difference(exact, std::vector<float>(exact.size()));
    EXPECT_GT(difference, 0);
    EXPECT_LT(difference, 0.05 * size);
  }
}

TEST_F(KvCacheTest, ReadsTheScalesOfTheCheckpoint) {
  const ModelConfig config = load_model_config(kModel);
  EXPECT_EQ(count_kv_scales(Checkpoint::open(kModel, config), config).with_scales, 0);
  const std::string ones = with_scales(1, 1), others = with_scales(0.3f, 0.007f);
  EXPECT_EQ(count_kv_scales(Checkpoint::open(others, config), config).with_scales, 1);
  const std::vector<float> without = logits_of(kModel, DType::kBFloat16, KvFormat::kFp8);
  EXPECT_EQ(logits_of(ones, DType::kBFloat16, KvFormat::kFp8), without);
  EXPECT_NE(logits_of(others, DType::kBFloat16, KvFormat::kFp8), without);
  // Values beyond 448 * scale are cut off: a scale far too small is noticed, so it is applied.
  const std::vector<float> exact = logits_of(kModel, DType::kBFloat16, KvFormat::kBFloat16);
  const std::vector<float> cut_off = logits_of(with_scales(1, 1e-6f), DType::kBFloat16, KvFormat::kFp8);
  EXPECT_GT(rms_difference(cut_off, exact), 4 * rms_difference(without, exact));
}

TEST_F(KvCacheTest, OtherFormatsDoNotLookAtTheScales) {
  EXPECT_EQ(logits_of(with_scales(0, -1), DType::kBFloat16, KvFormat::kBFloat16),
            logits_of(kModel, DType::kBFloat16, KvFormat::kBFloat16));
  const std::string error = error_of([&] { logits_of(with_scales(1, 0), DType::kBFloat16, KvFormat::kFp8); });
  EXPECT_NE(error.find("/scales.safetensors: tensor backbone.layers.2.mixer.v_proj.v_scale: is 0.0"),
            std::string::npos)
      << error;
}

}  // namespace
}  // namespace nemo
