// Every published spelling of config.json.
#include "lib/config/model_config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/config/model_config_keys.h"
#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

/// A config.json of a small model with `members` added, which must end in a comma if they are not empty.
ModelConfig parse(const std::string& members,
                  const std::string& layout = R"("hybrid_override_pattern":"M*-E")") {
  return parse_model_config(
      R"({"model_type":"nemotron_h","hidden_size":64,"vocab_size":100,)" + members + layout + "}",
      "config.json");
}

std::string pattern_of(const std::vector<LayerConfig>& layers) {
  std::string pattern;
  for (const LayerConfig& layer : layers) pattern += layer_letter(layer.kind);
  return pattern;
}

ModelConfig published(const std::string& folder) {
  return load_model_config(source_path("configs/models/" + folder));
}

TEST(Published, NanoThirtyBillion) {
  const ModelConfig config = published("nemotron-3-nano-30b-a3b");
  EXPECT_EQ(pattern_of(config.layers), "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME");
  EXPECT_EQ(config.vocab_size, 131072);
  EXPECT_EQ(config.hidden_size, 2688);
  EXPECT_EQ(config.num_attention_heads, 32);
  EXPECT_EQ(config.num_key_value_heads, 2);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.mamba_inner_size(), 4096);  // not expand * hidden_size
  EXPECT_EQ(config.conv_dim(), 6144);
  EXPECT_EQ(config.in_proj_size(), 10304);
  EXPECT_EQ(config.max_position_embeddings, 262144);
  const LayerConfig& moe = config.layers[1];
  EXPECT_EQ(moe.n_routed_experts, 128);
  EXPECT_EQ(moe.num_experts_per_tok, 6);
  EXPECT_EQ(moe.moe_intermediate_size, 1856);
  EXPECT_EQ(moe.shared_intermediate_size, 3712);
  EXPECT_EQ(moe.moe_latent_size, 0);
  EXPECT_EQ(config.expert_io_size(moe), 2688);
  EXPECT_FLOAT_EQ(config.routed_scaling_factor, 2.5f);
  EXPECT_TRUE(config.mtp_layers.empty());
  EXPECT_EQ(config.time_step_min, 0.0f);  // never the init-only 0.001
  EXPECT_TRUE(std::isinf(config.time_step_max));
  EXPECT_EQ(config.dtype, "bfloat16");
}

TEST(Published, LightningHasWordsAndANullLatent) {
  const ModelConfig config = published("nemotron-3.5-lightning-30b-a3b");
  EXPECT_EQ(pattern_of(config.layers), pattern_of(published("nemotron-3-nano-30b-a3b").layers));
  EXPECT_EQ(pattern_of(config.mtp_layers), "*E");
  EXPECT_EQ(config.layers[1].moe_latent_size, 0);
  EXPECT_EQ(config.max_position_embeddings, 1048576);
}

TEST(Published, SuperHasABareInfinity) {
  const ModelConfig config = published("nemotron-3-super-120b-a12b");
  EXPECT_EQ(config.num_layers(), 88);
  EXPECT_EQ(pattern_of(config.mtp_layers), "*E");
  EXPECT_EQ(config.num_nextn_predict_layers, 1);
  EXPECT_EQ(config.layers[1].moe_latent_size, 1024);
  EXPECT_EQ(config.expert_io_size(config.layers[1]), 1024);
  EXPECT_EQ(config.layers[1].num_experts_per_tok, 22);
  EXPECT_TRUE(std::isinf(config.time_step_max));
}

TEST(Published, UltraHasNoLayerCountAndA1e308Limit) {
  const ModelConfig config = published("nemotron-3-ultra-550b-a55b");
  EXPECT_EQ(config.num_layers(), 108);
  std::vector<int64_t> attention;
  for (int64_t i = 0; i < config.num_layers(); ++i) {
    if (config.layers[static_cast<size_t>(i)].kind == LayerKind::kAttention) attention.push_back(i);
  }
  EXPECT_EQ(attention, (std::vector<int64_t>{7, 14, 23, 32, 39, 48, 57, 64, 73, 82, 89, 98}));
  EXPECT_EQ(config.in_proj_size(), 35072);
  EXPECT_EQ(config.layers[1].shared_intermediate_size, 10240);
  EXPECT_TRUE(std::isinf(config.time_step_max));  // 1e308 is beyond float32
}

TEST(Published, FiftySixBillionHasOldSpellings) {
  const ModelConfig config = published("nemotron-h-56b");
  EXPECT_EQ(config.num_layers(), 118);
  EXPECT_EQ(config.head_dim, 128);  // attention_head_dim
  EXPECT_FLOAT_EQ(config.layer_norm_epsilon, 1e-5f);
  EXPECT_EQ(config.ssm_state_size, 256);
  EXPECT_EQ(config.in_proj_size(), 37120);
  EXPECT_EQ(config.layers[1].intermediate_size, 32768);
}

TEST(Published, NoFileHasUnknownKeysOrWarnings) {
  for (const auto& entry : std::filesystem::directory_iterator(source_path("configs/models"))) {
    if (!entry.is_directory()) continue;
    const ModelConfig config = load_model_config(entry.path().string());
    EXPECT_TRUE(config.unknown_keys.empty()) << entry.path() << ": " << config.unknown_keys.front();
    EXPECT_TRUE(config.warnings.empty()) << entry.path() << ": " << config.warnings.front();
  }
}

TEST(Layout, ListsInOldAndNewWords) {
  const std::string expected = "M*-E";
  EXPECT_EQ(pattern_of(parse("").layers), expected);
  EXPECT_EQ(pattern_of(parse("", R"("layers_block_type":["mamba","attention","mlp","moe"])").layers),
            expected);
  EXPECT_EQ(pattern_of(
                parse("", R"("layers_block_type":["linear_attention","full_attention","mlp","moe"])").layers),
            expected);
  EXPECT_EQ(pattern_of(parse("", R"("layer_types":["mamba","full_attention","mlp","moe"])").layers),
            expected);
}

TEST(Layout, TheListWinsOverThePattern) {
  const ModelConfig config = parse(R"("layers_block_type":["mamba","mamba"],)");
  EXPECT_EQ(pattern_of(config.layers), "MM");
  ASSERT_EQ(config.warnings.size(), 1u);
  EXPECT_NE(config.warnings[0].find("the list wins"), std::string::npos) << config.warnings[0];
}

TEST(Layout, AnotherLayerCountOnlyWarns) {
  EXPECT_TRUE(parse(R"("num_hidden_layers":null,)").warnings.empty());
  EXPECT_TRUE(parse(R"("num_hidden_layers":4,)").warnings.empty());
  const ModelConfig config = parse(R"("num_hidden_layers":52,)");
  EXPECT_EQ(config.num_layers(), 4);
  ASSERT_EQ(config.warnings.size(), 1u);
  EXPECT_NE(config.warnings[0].find("num_hidden_layers is 52"), std::string::npos) << config.warnings[0];
}

TEST(Mtp, ComesOnlyWithItsDepth) {
  EXPECT_TRUE(parse(R"("mtp_layers_block_type":["full_attention","moe"],)").mtp_layers.empty());
  EXPECT_EQ(pattern_of(parse(R"("num_nextn_predict_layers":1,)").mtp_layers), "*E");
  EXPECT_EQ(
      pattern_of(parse(R"("num_nextn_predict_layers":1,"mtp_hybrid_override_pattern":"E",)").mtp_layers),
      "E");
  EXPECT_EQ(pattern_of(parse(R"("num_nextn_predict_layers":2,)").mtp_layers), "*E*E");
}

TEST(Spellings, OldNamesAndAliases) {
  EXPECT_EQ(parse(R"("attention_head_dim":32,)").head_dim, 32);
  EXPECT_EQ(parse(R"("mamba_n_groups":4,)").n_groups, 4);
  EXPECT_EQ(parse(R"("mamba_d_conv":3,)").conv_kernel, 3);
  EXPECT_FALSE(parse(R"("mamba_conv_bias":false,)").use_conv_bias);
  EXPECT_EQ(parse(R"("num_local_experts":16,)").layers[3].n_routed_experts, 16);
  EXPECT_EQ(parse(R"("torch_dtype":"float32",)").dtype, "float32");
  EXPECT_EQ(parse(R"("dtype":"float16",)").dtype, "float16");
  EXPECT_TRUE(parse(R"("use_bias":true,)").mamba_proj_bias);
  EXPECT_TRUE(parse(R"("mamba_proj_bias":true,)").mamba_proj_bias);
  EXPECT_EQ(
      parse(R"("mamba_expand":7,"mamba_chunk_size":3,"mamba_dt_min":0.5,"mamba_dt_max":0.6,)").time_step_min,
      0);
  EXPECT_EQ(parse(R"("n_group":null,"topk_group":null,"n_shared_experts":null,)").n_group, 1);
}

TEST(Spellings, EpsilonHasAReadOrder) {
  EXPECT_FLOAT_EQ(parse(R"("norm_eps":1e-3,)").layer_norm_epsilon, 1e-3f);
  EXPECT_FLOAT_EQ(parse(R"("norm_eps":1e-3,"rms_norm_eps":1e-4,)").layer_norm_epsilon, 1e-4f);
  const ModelConfig config = parse(R"("norm_eps":1e-3,"rms_norm_eps":1e-4,"layer_norm_epsilon":1e-6,)");
  EXPECT_FLOAT_EQ(config.layer_norm_epsilon, 1e-6f);
  EXPECT_EQ(config.warnings.size(), 2u);
}

TEST(Spellings, TimeStepLimit) {
  const auto limits = [](const std::string& value) {
    const ModelConfig config = parse("\"time_step_limit\":" + value + ",");
    return std::pair(config.time_step_min, config.time_step_max);
  };
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(limits("[0.0, Infinity]"), std::pair(0.0f, inf));
  EXPECT_EQ(limits("[0.0,\"Infinity\"]"), std::pair(0.0f, inf));
  EXPECT_EQ(limits(R"([0.0,{"__float__":"Infinity"}])"), std::pair(0.0f, inf));
  EXPECT_EQ(limits("[0.0, 1e308]"), std::pair(0.0f, inf));
  EXPECT_EQ(limits("[0.25, 0.5]"), std::pair(0.25f, 0.5f));
  EXPECT_EQ(parse(R"("mamba_dt_limit":[0, 2],)").time_step_max, 2.0f);
  // The words inside a string stay what they are.
  EXPECT_EQ(parse(R"("dtype":"a \" Infinity, NaN","time_step_limit":[0,Infinity],)").dtype,
            "a \" Infinity, NaN");
}

TEST(Spellings, EndOfTextTokens) {
  EXPECT_EQ(parse("").eos_token_ids, (std::vector<int32_t>{2}));
  EXPECT_EQ(parse(R"("eos_token_id":7,)").eos_token_ids, (std::vector<int32_t>{7}));
  EXPECT_EQ(parse(R"("eos_token_id":[2,11],)").eos_token_ids, (std::vector<int32_t>{2, 11}));
  EXPECT_EQ(parse(R"("bos_token_id":-1,"pad_token_id":null,)").bos_token_id, -1);
}

TEST(Spellings, IntermediateSizeAsAList) {
  const std::string layout = R"("hybrid_override_pattern":"M-E-")";
  const ModelConfig by_mlp = parse(R"("intermediate_size":[10,20],)", layout);
  EXPECT_EQ(by_mlp.layers[1].intermediate_size, 10);
  EXPECT_EQ(by_mlp.layers[3].intermediate_size, 20);
  const ModelConfig by_layer = parse(R"("intermediate_size":[0,10,0,20],)", layout);
  EXPECT_EQ(by_layer.layers[1].intermediate_size, 10);
  EXPECT_EQ(by_layer.layers[3].intermediate_size, 20);
}

TEST(Puzzle, BlocksOverrideGlobals) {
  const std::string text =
      R"({"architectures":["NemotronHPuzzleForCausalLM"],"hidden_size":64,"vocab_size":100,
    "n_routed_experts":8,"num_experts_per_tok":4,"moe_shared_expert_intermediate_size":96,"n_group":null,
    "num_hidden_layers":null,"num_nextn_predict_layers":1,
    "block_configs":[{"block_type":"mamba"},
                     {"block_type":"moe","moe_intermediate_size":32,"num_experts_per_tok":2},
                     {"block_type":"attention"},
                     {"block_type":"moe","moe_latent_size":16,"n_routed_experts":4,"surprise":1}],
    "mtp_block_configs":[{"block_type":"attention"},{"block_type":"moe","moe_intermediate_size":48}]})";
  const ModelConfig config = parse_model_config(text, "config.json");
  EXPECT_EQ(config.model_type, "nemotron_h_puzzle");
  EXPECT_EQ(pattern_of(config.layers), "ME*E");
  EXPECT_EQ(config.layers[1].moe_intermediate_size, 32);
  EXPECT_EQ(config.layers[1].num_experts_per_tok, 2);
  EXPECT_EQ(config.layers[1].n_routed_experts, 8);
  EXPECT_EQ(config.layers[1].shared_intermediate_size, 96);
  EXPECT_EQ(config.layers[3].moe_intermediate_size, 48);  // no global value: the MTP block's
  EXPECT_EQ(config.layers[3].moe_latent_size, 16);
  EXPECT_EQ(config.layers[3].n_routed_experts, 4);
  EXPECT_EQ(pattern_of(config.mtp_layers), "*E");
  EXPECT_EQ(config.mtp_layers[1].moe_intermediate_size, 48);
  EXPECT_EQ(config.unknown_keys, (std::vector<std::string>{"block_configs[3].surprise"}));
}

TEST(Keys, UnknownAreListedAndIgnoredAreNot) {
  const ModelConfig config =
      parse(R"("zeta":1,"alpha":{"rope_theta":1},"_note":0,"rope_theta":5,"expand":3,)");
  EXPECT_EQ(config.unknown_keys, (std::vector<std::string>{"alpha", "zeta"}));
  EXPECT_EQ(config.mamba_inner_size(), 128 * 64);
}

TEST(Keys, TheTableHasEachOnce) {
  std::vector<std::string_view> names;
  for (const ModelConfigKey& key : model_config_keys()) names.push_back(key.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(Quantization, IsRecognised) {
  const ModelConfig config =
      parse(R"("quantization_config":{"quant_method":"modelopt","quant_algo":"NVFP4"},)");
  EXPECT_EQ(config.quantization, "modelopt NVFP4");
}

TEST(Quantization, OfThePublishedNanoIsAnnouncedLayerByLayer) {
  const ModelConfig config = load_model_config(source_path("configs/models/nemotron-3-nano-30b-a3b-nvfp4"));
  EXPECT_EQ(config.quantization, "modelopt NVFP4");
  int num_plain = 0;
  for (int layer = 0; layer < 52; ++layer) {
    if (config.layers[static_cast<size_t>(layer)].kind != LayerKind::kMamba) continue;
    const std::string name = "layers." + std::to_string(layer) + ".mixer.in_proj.weight";
    num_plain += announced_storage(config, name) == StoredAs::kPlain ? 1 : 0;
  }
  EXPECT_EQ(num_plain, 6);  // those before an attention layer
  EXPECT_EQ(announced_storage(config, "layers.1.mixer.experts.127.up_proj.weight"), StoredAs::kNvfp4);
  EXPECT_EQ(announced_storage(config, "layers.5.mixer.q_proj.weight"), StoredAs::kPlain);
  EXPECT_EQ(announced_storage(config, "lm_head.weight"), StoredAs::kPlain);
}

TEST(Warnings, NameWhatIsIgnored) {
  EXPECT_EQ(parse(R"("sliding_window":4096,)").warnings.size(), 1u);
  EXPECT_EQ(parse(R"("mamba_ssm_cache_dtype":"float16",)").warnings.size(), 1u);
}

TEST(Load, AFolderWithGenerationConfig) {
  const TemporaryFolder folder;
  folder.write("config.json", R"({"model_type":"nemotron_h","hybrid_override_pattern":"M"})");
  EXPECT_EQ(load_model_config(folder.path()).eos_token_ids, (std::vector<int32_t>{2}));
  folder.write("generation_config.json", R"({"eos_token_id":[2,11]})");
  folder.write("hf_quant_config.json", R"({"quantization":{"quant_algo":"MIXED_PRECISION"}})");
  const ModelConfig config = load_model_config(folder.path());
  EXPECT_EQ(config.eos_token_ids, (std::vector<int32_t>{2, 11}));
  EXPECT_EQ(config.quantization, "modelopt MIXED_PRECISION");
  EXPECT_EQ(config.name, std::filesystem::path(folder.path()).filename().string());
  EXPECT_EQ(load_model_config(folder / "config.json").eos_token_ids, (std::vector<int32_t>{2}));
  EXPECT_EQ(load_model_config(folder.path() + "/").name, config.name);
}

}  // namespace
}  // namespace nemo
