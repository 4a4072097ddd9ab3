// Packs: the same model to the bit, and never another one.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "lib/model/serial_model.h"
#include "lib/weights/checkpoint_fingerprint.h"
#include "lib/weights/model_files.h"
#include "lib/weights/pack/pack_file.h"
#include "lib/weights/pack/pack_form.h"
#include "lib/weights/pack/pack_writer.h"
#include "lib/weights/synthetic/synthesize.h"
#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

using kernels::DType;

const std::string kTrained = source_path("configs/checkpoints/kjv-wordnet-7m");

class PackTest : public testing::Test {
 protected:
  std::string pack(const std::string& model, const std::string& name, DType dtype = DType::kBFloat16) {
    write_pack({.model_path = model, .out_path = folder_ / name, .dtype = dtype});
    return folder_ / name;
  }

  /// A small model of every kind of layer, with experts in their latent space.
  std::string small_checkpoint(StoredAs format) {
    const std::string config = folder_.write("small.json", R"({"model_type":"nemotron_h","vocab_size":300,
      "hidden_size":32,"hybrid_override_pattern":"ME*-","num_attention_heads":2,"num_key_value_heads":1,"head_dim":16,
      "mamba_num_heads":4,"mamba_head_dim":8,"n_groups":2,"ssm_state_size":16,"conv_kernel":4,"intermediate_size":48,
      "n_routed_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":32,"moe_latent_size":16,
      "moe_shared_expert_intermediate_size":32})");
    const std::string out = folder_ / ("small" + std::to_string(static_cast<int>(format)));
    kernels::ThreadPool threads(1);
    synthesize_checkpoint(threads, {.config_path = config, .out_folder = out, .quantization = format});
    return out;
  }

  TemporaryFolder folder_;
};

std::vector<float> logits_of(const std::string& model_path, DType dtype,
                             std::optional<kernels::KvFormat> kv_format = {}) {
  const std::vector<int32_t> ids = {5, 17, 71, 3, 44, 60, 9, 77, 12};
  SerialModel model(
      model_path, {.dtype = dtype, .threads = 2, .kv_format = kv_format.value_or(kernels::kv_format(dtype))});
  std::vector<float> logits(ids.size() * static_cast<size_t>(model.config().vocab_size));
  model.logits(model.forward(ids),
               {logits.data(), static_cast<int64_t>(ids.size()), model.config().vocab_size});
  return logits;
}

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0) << what;
}

void overwrite(const std::string& path, size_t offset, const std::string& bytes) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(offset));
  file << bytes;
}

TEST_F(PackTest, GivesTheSameLogitsToTheBit) {
  for (const std::string model :
       {"tests/golden/quantized/latent-mixed", "tests/golden/models/latent", "tests/golden/models/all_kinds",
        "tests/golden/models/puzzle", "tests/golden/models/dense", "tests/golden/models/grouped"}) {
    const std::string path =
        pack(source_path(model), std::filesystem::path(model).filename().string() + ".h5");
    expect_same_bits(logits_of(path, DType::kBFloat16), logits_of(source_path(model), DType::kBFloat16),
                     model);
  }
  for (const DType dtype : {DType::kBFloat16, DType::kFloat32}) {
    const std::string path = pack(kTrained, dtype == DType::kBFloat16 ? "bf16.h5" : "f32.h5", dtype);
    expect_same_bits(logits_of(path, dtype), logits_of(kTrained, dtype), "trained");
  }
  for (const StoredAs format : {StoredAs::kFp8, StoredAs::kNvfp4}) {
    const std::string small = small_checkpoint(format),
                      name = "q" + std::to_string(static_cast<int>(format)) + ".h5";
    expect_same_bits(logits_of(pack(small, name), DType::kBFloat16), logits_of(small, DType::kBFloat16),
                     name);
  }
}

TEST_F(PackTest, CarriesTheScalesOfTheKvCache) {
  const std::string small = small_checkpoint(StoredAs::kFp8), path = pack(small, "scales.h5");
  const ModelConfig config = load_model_config(path);
  const Checkpoint packed = Checkpoint::open(path, config), folder = Checkpoint::open(small, config);
  for (const TensorSpec& spec : kv_scale_tensors(config)) {
    EXPECT_NE(folder.kv_scale(spec.name), std::nullopt) << spec.name;
    EXPECT_EQ(packed.kv_scale(spec.name), folder.kv_scale(spec.name)) << spec.name;
  }
  const auto logits = logits_of(path, DType::kBFloat16, kernels::KvFormat::kFp8);
  expect_same_bits(logits, logits_of(small, DType::kBFloat16, kernels::KvFormat::kFp8), "FP8 KV cache");
  EXPECT_NE(logits, logits_of(path, DType::kBFloat16));
  const std::string plain = pack(small_checkpoint(StoredAs::kPlain), "plain.h5");
  for (const TensorSpec& spec : kv_scale_tensors(config))
    EXPECT_EQ(Checkpoint::open(plain, config).kv_scale(spec.name), std::nullopt) << spec.name;
}

TEST_F(PackTest, CarriesTheSmallFilesAndTheFingerprints) {
  const std::string path = pack(kTrained, "model.h5");
  EXPECT_TRUE(is_pack(path));
  EXPECT_FALSE(is_pack(kTrained));
  EXPECT_EQ(model_file_names(path), model_file_names(kTrained));
  for (const std::string& name : model_file_names(path))
    EXPECT_EQ(find_model_file(path, name, 1 << 30), find_model_file(kTrained, name, 1 << 30)) << name;
  EXPECT_EQ(find_model_file(path, "no_such_file", 1 << 30), std::nullopt);
  EXPECT_EQ(fingerprint_checkpoint(path), fingerprint_checkpoint(kTrained));
  EXPECT_EQ(fingerprint_tokenizer(path), fingerprint_tokenizer(kTrained));
  EXPECT_EQ(load_model_config(path).eos_token_ids, load_model_config(kTrained).eos_token_ids);
  EXPECT_EQ(load_model_config(path).name, "model");
}

TEST_F(PackTest, SameCheckpointSameBytes) {
  const std::string small = small_checkpoint(StoredAs::kNvfp4);
  EXPECT_EQ(read_file(pack(small, "a.h5")), read_file(pack(small, "b.h5")));
}

TEST_F(PackTest, AFlippedBitOfATensorNamesTensorAndFile) {
  const std::string path = pack(small_checkpoint(StoredAs::kFp8), "model.h5");
  const std::string whole = read_file(path);
  const ModelConfig config = load_model_config(path);
  for (const TensorSpec& spec : pack_tensors(config)) {
    const PackFile::Place place = PackFile(path).place(spec.name);
    const size_t offset = place.begin_byte + (place.num_parts - 1) * place.part_bytes + place.part_bytes / 2;
    overwrite(path, offset, std::string(1, static_cast<char>(whole[offset] ^ 4)));
    const std::string error = error_of([&] { SerialModel(path, {.dtype = DType::kBFloat16, .threads = 1}); });
    EXPECT_NE(error.find(path), std::string::npos) << error;
    EXPECT_NE(error.find(spec.name), std::string::npos) << error;
    EXPECT_NE(error.find("bytes that were written"), std::string::npos) << error;
    if (spec.split == Split::kByExpert) {
      EXPECT_NE(error.find("expert 3"), std::string::npos) << error;
    }
    overwrite(path, offset, whole.substr(offset, 1));
  }
}

// Whatever is hit, names, sizes, checksums or HDF5's own structures: an Error, or nothing has changed.
TEST_F(PackTest, AFlippedBitAnywhereIsAnErrorOrHarmless) {
  const std::string path = pack(small_checkpoint(StoredAs::kNvfp4), "model.h5");
  const std::string whole = read_file(path);
  const std::vector<float> logits = logits_of(path, DType::kBFloat16);
  std::mt19937 random(1);
  int num_errors = 0;
  for (int i = 0; i < 200; ++i) {
    // Half of them near the beginning and the end, where HDF5 keeps its own.
    const size_t within = i % 2 == 0 ? whole.size() : std::min<size_t>(whole.size() / 2, 4096);
    const size_t place = random() % within, offset = i % 4 == 3 ? whole.size() - 1 - place : place;
    overwrite(path, offset, std::string(1, static_cast<char>(whole[offset] ^ (1 << i % 8))));
    try {
      expect_same_bits(logits_of(path, DType::kBFloat16), logits, "byte " + std::to_string(offset));
    } catch (const Error&) {
      ++num_errors;
    }
    overwrite(path, offset, whole.substr(offset, 1));
  }
  EXPECT_GT(num_errors, 50);
}

TEST_F(PackTest, ATruncatedFileIsAnError) {
  const std::string path = pack(small_checkpoint(StoredAs::kPlain), "model.h5");
  const std::string whole = read_file(path);
  for (const size_t size : {whole.size() - 1, whole.size() / 2, size_t{100}, size_t{8}})
    EXPECT_NE(error_of([&] { PackFile(folder_.write("cut.h5", whole.substr(0, size))); }).find("cut.h5"),
              std::string::npos)
        << size;
}

TEST_F(PackTest, RefusesAnotherDTypeAndAnotherLayout) {
  const std::string small = small_checkpoint(StoredAs::kPlain), path = pack(small, "model.h5");
  EXPECT_NE(error_of([&] { logits_of(path, DType::kFloat32); }).find("--dtype float32"), std::string::npos);

  PackAbout about = read_pack_about(path);
  const std::string old_text = pack_about_text(about), whole = read_file(path);
  about.layout.back() = about.layout.back() == '0' ? '1' : '0';
  overwrite(path, whole.find(old_text), pack_about_text(about));
  EXPECT_NE(error_of([&] { logits_of(path, DType::kBFloat16); }).find("layout of another version"),
            std::string::npos);
}

TEST_F(PackTest, RefusesWhatIsInTheWayAndWhatIsNoCheckpoint) {
  const std::string small = small_checkpoint(StoredAs::kPlain), path = pack(small, "model.h5");
  EXPECT_NE(error_of([&] { pack(small, "model.h5"); }).find("is there already"), std::string::npos);
  EXPECT_NE(error_of([&] { pack(path, "again.h5"); }).find("is a pack already"), std::string::npos);
  EXPECT_NE(
      error_of([&] { pack(source_path("configs/models/nano-9b-v2"), "none.h5"); }).find("no safetensors"),
      std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none.h5.partial"));
}

TEST(PackAboutText, IsCheckedMemberByMember) {
  const PackAbout about{.dtype = "bfloat16",
                        .layout = "l",
                        .checkpoint = "c",
                        .tokenizer = "t",
                        .files = {{"config.json", "{\"\xc3\xa9\"}\n"}},
                        .tensors = {{"a", {"float32", {UINT64_MAX, 0}, {1.0f, 0.1f}}}}};
  const PackAbout back = parse_pack_about(pack_about_text(about), "x.h5");
  EXPECT_EQ(pack_about_text(back), pack_about_text(about));
  EXPECT_EQ(back.tensors.at("a").checksums.front(), UINT64_MAX);
  EXPECT_EQ(back.tensors.at("a").scales.back(), 0.1f);
  for (const char* bad : {"", "0123456789abcdef", "0123456789abcdef\n{}"})
    EXPECT_NE(error_of([&] { parse_pack_about(bad, "x.h5"); }).find("x.h5"), std::string::npos);
}

}  // namespace
}  // namespace nemo
