// Checkpoints with random weights: that they run, that a slice is a slice of the whole, and that their bytes
// are the same everywhere.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "lib/config/json_text.h"
#include "lib/model/serial_model.h"
#include "lib/request/fingerprint.h"
#include "lib/text/tokenizer.h"
#include "lib/weights/synthetic/config_slice.h"
#include "lib/weights/synthetic/shard_writer.h"
#include "lib/weights/synthetic/synthesize.h"
#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

const std::string kModels = std::string(NEMO_SOURCE_DIR) + "/configs/models/";

constexpr const char* kSmall = R"({"model_type":"nemotron_h","vocab_size":512,"hidden_size":64,
    "hybrid_override_pattern":"ME*-E","num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,
    "mamba_num_heads":8,"mamba_head_dim":16,"n_groups":2,"ssm_state_size":16,"conv_kernel":4,"intermediate_size":96,
    "n_routed_experts":8,"num_experts_per_tok":3,"moe_intermediate_size":48,"moe_latent_size":32,
    "routed_scaling_factor":2.5,"moe_shared_expert_intermediate_size":80,"num_nextn_predict_layers":1,
    "mtp_hybrid_override_pattern":"*E","time_step_limit":[0.0, Infinity]})";

class SyntheticCheckpoint : public testing::Test {
 protected:
  std::string make(const std::string& name, const std::string& layers, StoredAs quantization,
                   uint64_t seed = 7) {
    const std::string out = folder_ / name;
    synthesize_checkpoint(threads_, {.config_path = config_,
                                     .out_folder = out,
                                     .layers = layers,
                                     .quantization = quantization,
                                     .seed = seed});
    return out;
  }

  kernels::ThreadPool threads_{2};
  TemporaryFolder folder_;
  std::string config_ = folder_.write("small.json", kSmall);
};

double rms(const std::vector<float>& values) {
  const double squares = std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

TEST_F(SyntheticCheckpoint, RunsInEveryFormatWithActivationsOfOrderOne) {
  for (const StoredAs format : {StoredAs::kPlain, StoredAs::kFp8, StoredAs::kNvfp4}) {
    const std::string out = make("run" + std::to_string(static_cast<int>(format)), "", format);
    SerialModel model(out, {.dtype = kernels::DType::kBFloat16, .threads = 2});
    const std::vector<int32_t> ids = Tokenizer::load(out).encode("In the beginning", AddSpecialTokens::kNo);
    EXPECT_EQ(ids.size(), 16u);  // one token a byte
    std::vector<float> logits(ids.size() * 512);
    model.logits(model.forward(ids), {logits.data(), static_cast<int64_t>(ids.size()), 512});
    EXPECT_GT(rms(logits), 0.3);
    EXPECT_LT(rms(logits), 3);
  }
}

TEST_F(SyntheticCheckpoint, MatricesKeepTheVarianceOfTheirInput) {
  for (const StoredAs format : {StoredAs::kPlain, StoredAs::kFp8, StoredAs::kNvfp4}) {
    const std::string out = make("rms" + std::to_string(static_cast<int>(format)), "", format);
    const ModelConfig config = load_model_config(out);
    const Checkpoint checkpoint = Checkpoint::open(out, config);
    EXPECT_EQ(checkpoint.stored_as("layers.0.mixer.in_proj.weight"), format);
    EXPECT_EQ(checkpoint.stored_as("layers.1.mixer.experts.7.down_proj.weight"), format);
    EXPECT_EQ(checkpoint.stored_as("layers.2.mixer.q_proj.weight"), StoredAs::kPlain);
    EXPECT_NEAR(rms(checkpoint.read_f32("layers.0.mixer.in_proj.weight")) * 8, 1, 0.03);
    EXPECT_NEAR(rms(checkpoint.read_f32("layers.3.mixer.down_proj.weight")) * std::sqrt(96), 1, 0.03);
  }
}

TEST_F(SyntheticCheckpoint, ASliceHasTheWeightsOfTheWhole) {
  const std::string whole = make("whole", "", StoredAs::kNvfp4),
                    slice = make("slice", "0,2-3", StoredAs::kNvfp4);
  const ModelConfig config = load_model_config(slice);
  ASSERT_EQ(config.num_layers(), 3);
  EXPECT_EQ(config.layers[1].kind, LayerKind::kAttention);
  const Checkpoint of_slice = Checkpoint::open(slice, config);
  const Checkpoint of_whole = Checkpoint::open(whole, load_model_config(whole));
  for (const char* name : {".mixer.up_proj.weight", ".mixer.down_proj.weight", ".norm.weight"})
    EXPECT_EQ(of_slice.read_f32("layers.2" + std::string(name)),
              of_whole.read_f32("layers.3" + std::string(name)));
  EXPECT_NE(of_slice.read_f32("layers.0.norm.weight"), of_whole.read_f32("layers.1.norm.weight"));
}

// Frozen: other bytes on another machine, compiler or number of threads would be another checkpoint.
TEST_F(SyntheticCheckpoint, BytesAreThoseOfAnyMachine) {
  const auto fingerprint = [&](StoredAs format, uint64_t seed) {
    const std::string out = make("bytes" + std::to_string(seed), "1,3", format, seed);
    return fingerprint_files({out + "/model-00001-of-00001.safetensors"});
  };
  EXPECT_EQ(fingerprint(StoredAs::kPlain, 1), "1807ae3b9ff3c215548a1cccdf10bf84");
  EXPECT_EQ(fingerprint(StoredAs::kFp8, 2), "c429d8250ed06aafd016d47249706f2d");
  EXPECT_EQ(fingerprint(StoredAs::kNvfp4, 3), "ca16584c2fbd3407173402c2ffc62db8");
}

TEST_F(SyntheticCheckpoint, ShardsDivideTensorsAndChangeNothing) {
  std::vector<RandomTensor> tensors;
  for (const int64_t size : {33, 1000, 7, 1})
    tensors.push_back({.name = "t" + std::to_string(size), .shape = {size}, .half_width = 1, .stream = 5});
  const auto values = [&](const std::string& name, uint64_t max_shard_bytes) {
    const std::string out = folder_ / name;
    std::filesystem::create_directory(out);
    write_shards(threads_, out, tensors, 1, max_shard_bytes);
    const auto source = open_checkpoint(out);
    std::string all;
    for (const RandomTensor& tensor : tensors) {
      std::string bytes(tensor.num_bytes(), '\0');
      source->read(*source->find(tensor.name), 0, std::as_writable_bytes(std::span(bytes)));
      all += bytes;
    }
    return all;
  };
  EXPECT_EQ(values("one", 1 << 20), values("several", 100));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "several/model-00003-of-00003.safetensors"));
}

TEST_F(SyntheticCheckpoint, RefusesWhatIsInTheWay) {
  const std::string out = make("twice", "0", StoredAs::kPlain);
  EXPECT_NE(error_of([&] { make("twice", "0", StoredAs::kPlain); }).find("is not empty"), std::string::npos);
  EXPECT_NE(error_of([&] { make("small.json", "0", StoredAs::kPlain); }).find("no folder"),
            std::string::npos);
  config_ = kModels + "nemotron-3-ultra-550b-a55b";
  EXPECT_NE(error_of([&] { make("large", "", StoredAs::kPlain); }).find("choose fewer layers"),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "large"));
}

TEST(LayerChoice, IsNumbersAndRanges) {
  EXPECT_EQ(parse_layer_choice("", 3), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(parse_layer_choice("0-2,7", 8), (std::vector<int64_t>{0, 1, 2, 7}));
  for (const char* bad : {"8", "a", "1,", ",1", "2-1", "1,1", "3,0-2", "-1", "1-", "0x1", " 1"})
    EXPECT_NE(error_of([&] { parse_layer_choice(bad, 8); }).find("as in 0-3,7"), std::string::npos) << bad;
}

TEST(ConfigSlice, CutsEverySpellingAlike) {
  const auto slice = [](const std::string& text, const std::vector<int64_t>& choice) {
    return slice_config(parse_json(text, "config.json"), parse_model_config(text, "config.json"), choice);
  };
  const std::string common = R"({"model_type":"nemotron_h","hidden_size":64,)";
  const auto by_mlp =
      slice(common + R"("hybrid_override_pattern":"-M--","intermediate_size":[10,20,30]})", {1, 3});
  EXPECT_EQ(by_mlp["hybrid_override_pattern"], "M-");
  EXPECT_EQ(by_mlp["intermediate_size"], nlohmann::json({30}));
  EXPECT_EQ(by_mlp["num_hidden_layers"], 2);
  const auto by_layer =
      slice(common + R"("layers_block_type":["mlp","mamba","mlp"],"intermediate_size":[10,0,30]})", {1, 2});
  EXPECT_EQ(by_layer["layers_block_type"], nlohmann::json({"mamba", "mlp"}));
  EXPECT_EQ(by_layer["intermediate_size"], nlohmann::json({0, 30}));
  const auto puzzle = slice(
      R"({"model_type":"nemotron_h_puzzle","hidden_size":64,"n_routed_experts":4,"block_configs":[{"block_type":"moe",
      "moe_intermediate_size":32},{"block_type":"mamba"},{"block_type":"moe","moe_intermediate_size":48}]})",
      {1, 2});
  const ModelConfig config = parse_model_config(puzzle.dump(), "config.json");
  ASSERT_EQ(config.num_layers(), 2);
  EXPECT_EQ(config.layers[1].moe_intermediate_size, 48);
}

TEST(ConfigSlice, EveryPublishedModelCanBeCut) {
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    if (!entry.is_directory()) continue;
    const std::string file = (entry.path() / "config.json").string();
    const ModelConfig whole = load_model_config(file);
    const auto slice =
        slice_config(parse_json(read_text_file(file, 1 << 20), file), whole, {0, 1, whole.num_layers() - 1});
    const ModelConfig config = parse_model_config(slice.dump(), file);
    ASSERT_EQ(config.num_layers(), 3) << file;
    EXPECT_EQ(config.layers[2].kind, whole.layers.back().kind) << file;
    EXPECT_EQ(config.num_nextn_predict_layers, 0) << file;
    EXPECT_EQ(config.time_step_max, whole.time_step_max) << file;
  }
}

}  // namespace
}  // namespace nemo
