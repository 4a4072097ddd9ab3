// What config.json is refused for, and that no damaged file does worse than an Error.
#include <gtest/gtest.h>

#include <random>

#include "lib/config/model_config.h"
#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

struct Case {
  std::string members;   ///< added to a small valid config.json
  std::string expected;  ///< part of the error
};

std::string document(const std::string& members) {
  std::string text = R"({"model_type":"nemotron_h","vocab_size":100,)" + members;
  if (members.find("hybrid_override_pattern") == std::string::npos)
    text += R"("hybrid_override_pattern":"M*-E",)";
  text.back() = '}';
  return text;
}

class Refused : public testing::TestWithParam<Case> {};

TEST_P(Refused, NamingFileAndKey) {
  const std::string error =
      error_of([] { parse_model_config(document(GetParam().members), "folder/config.json"); });
  EXPECT_NE(error.find("folder/config.json: "), std::string::npos) << error;
  EXPECT_NE(error.find(GetParam().expected), std::string::npos) << error;
}

INSTANTIATE_TEST_SUITE_P(
    Values, Refused,
    testing::Values(
        Case{R"("hidden_size":0,)", "hidden_size: must be an integer from 1 to 262144, not 0"},
        Case{R"("hidden_size":-5,)", "hidden_size: must be an integer"},
        Case{R"("hidden_size":1000000000000000000,)", "hidden_size: must be an integer"},
        Case{R"("hidden_size":18446744073709551615,)", "hidden_size: must be an integer"},
        Case{R"("hidden_size":1e18,)", "hidden_size: must be an integer"},
        Case{R"("hidden_size":64.5,)", "hidden_size: must be an integer"},
        Case{R"("hidden_size":"64",)", "hidden_size: must be an integer"},
        Case{R"("hidden_size":true,)", "hidden_size: must be an integer"},
        Case{R"("hidden_size":[64],)", "hidden_size: must be an integer from 1 to 262144, not [64]"},
        Case{R"("mamba_num_heads":130,)", "mamba_num_heads: 130 is not a multiple of n_groups 8"},
        Case{R"("num_attention_heads":9,)",
             "num_attention_heads: 9 is not a multiple of num_key_value_heads 8"},
        Case{R"("n_group":3,)", "n_routed_experts: 8 is not a multiple of n_group 3"},
        Case{R"("n_group":2,"topk_group":3,)", "topk_group: 3 is more than n_group 2"},
        Case{R"("n_group":8,)", "n_group: leaves one expert in each group"},
        Case{R"("num_experts_per_tok":9,)", "num_experts_per_tok: 9 is more than the 8 experts"},
        Case{R"("n_group":4,"num_experts_per_tok":3,)", "num_experts_per_tok: 3 is more than the 2 experts"},
        Case{R"("mlp_hidden_act":"silu",)", "mlp_hidden_act: \"silu\" is not supported (only relu2 is)"},
        Case{R"("mamba_hidden_act":"gelu",)", "mamba_hidden_act: \"gelu\" is not supported"},
        Case{R"("residual_in_fp32":true,)", "residual_in_fp32: true is not supported"},
        Case{R"("tie_word_embeddings":1,)", "tie_word_embeddings: must be true or false, not 1"},
        Case{R"("dtype":16,)", "dtype: must be a string, not 16"},
        Case{R"("layer_norm_epsilon":0,)", "layer_norm_epsilon: must be greater than 0"},
        Case{R"("layer_norm_epsilon":NaN,)", "layer_norm_epsilon: must be greater than 0"},
        Case{R"("layer_norm_epsilon":"x",)", "layer_norm_epsilon: must be a number, not \"x\""},
        Case{R"("routed_scaling_factor":Infinity,)", "routed_scaling_factor: must be a finite number"},
        Case{R"("time_step_limit":[1],)", "time_step_limit: must be a list of two numbers, not [1]"},
        Case{R"("time_step_limit":[1,0.5],)", "time_step_limit: must be 0 <= low <= high"},
        Case{R"("time_step_limit":[-Infinity,1],)", "time_step_limit: must be 0 <= low <= high"},
        Case{R"("time_step_limit":[0,NaN],)", "time_step_limit: must be 0 <= low <= high"},
        Case{R"("eos_token_id":100,)", "eos_token_id: must be an integer from 0 to 99, not 100"},
        Case{R"("eos_token_id":[],)", "eos_token_id: is an empty list"},
        Case{R"("quantization_config":3,)", "quantization_config: must be a JSON object, not 3"},
        Case{R"("hidden_size":64,"hidden_size":64,)", "key \"hidden_size\" is given twice"}));

INSTANTIATE_TEST_SUITE_P(
    Layouts, Refused,
    testing::Values(
        Case{R"("hybrid_override_pattern":"",)", "hybrid_override_pattern: is missing or empty"},
        Case{R"("hybrid_override_pattern":"MXM",)", "hybrid_override_pattern: has \"X\" at position 1"},
        Case{R"("hybrid_override_pattern":7,)", "hybrid_override_pattern: must be a string"},
        Case{R"("layers_block_type":["mamba","no_op"],)",
             "layers_block_type[1]: is \"no_op\", which is no kind"},
        Case{R"("layers_block_type":[3],)", "layers_block_type[0]: is 3"},
        Case{R"("layers_block_type":"mamba",)", "layers_block_type: must be a list of words"},
        Case{R"("intermediate_size":[1,2],)",
             "intermediate_size: is a list of 2, but there are 4 layers, of them 1"},
        Case{R"("intermediate_size":[0],)", "intermediate_size[0]: must be an integer"},
        Case{R"("block_configs":[{"block_type":"mamba"}],)", "block_configs: has 1 entries"},
        Case{R"("block_configs":[{},{},{},{"block_type":"mamba"}],)",
             "block_configs[3].block_type: contradicts"},
        Case{R"("block_configs":[{},{},{},{"moe_intermediate_size":-1}],)",
             "block_configs[3]: moe_intermediate_size: must be an integer"},
        Case{R"("block_configs":[{},{},{},5],)", "block_configs[3]: must be an object, not 5"},
        Case{R"("block_configs":5,)", "block_configs: must be a list of objects"},
        Case{R"("hybrid_override_pattern":"","block_configs":[{}],)", "block_configs[0]: has no block_type"},
        Case{R"("num_nextn_predict_layers":99,)",
             "num_nextn_predict_layers: must be an integer from 0 to 16"},
        Case{R"("num_nextn_predict_layers":1,"mtp_layers_block_type":["x"],)",
             "mtp_layers_block_type[0]: is \"x\""},
        Case{R"("num_nextn_predict_layers":1,"num_experts_per_tok":9,)", "num_experts_per_tok: 9 is more"},
        Case{R"("hybrid_override_pattern":")" + std::string(5000, 'M') + R"(",)",
             "has 5000 layers; at most 4096"},
        Case{R"("hybrid_override_pattern":")" + std::string(4000, 'E') +
                 R"(","n_routed_experts":65536,"moe_intermediate_size":16777216,"hidden_size":262144,)",
             "more than 10^15 parameters"}));

INSTANTIATE_TEST_SUITE_P(
    Models, Refused,
    testing::Values(
        Case{R"("architectures":["DeciLMForCausalLM"],)", "a dense model derived from Llama"},
        Case{R"("architectures":["NemotronForCausalLM"],)", "a dense transformer with rotary positions"},
        Case{R"("architectures":["NemotronHForSequenceClassification"],)", "a classification head"},
        Case{R"("architectures":["SomethingElse"],)", "architectures: \"SomethingElse\" is not supported"},
        Case{R"("architectures":"NemotronHForCausalLM",)", "architectures: must be a list of names"},
        Case{R"("architectures":[5],)", "architectures: must be a list of names"}));

TEST(RefusedModels, ByModelType) {
  const auto refuse = [](const std::string& type) {
    return error_of([&] { parse_model_config(R"({"model_type":")" + type + "\"}", "config.json"); });
  };
  EXPECT_EQ(refuse("nemotron-nas"),
            "config.json: model_type: \"nemotron-nas\" is a dense model derived from Llama "
            "(Llama-3.1-Nemotron-Ultra-253B "
            "among them), not a nemotron_h (nemo-dist runs model_type nemotron_h and nemotron_h_puzzle)");
  EXPECT_NE(refuse("llama").find("Llama family"), std::string::npos);
  EXPECT_NE(refuse("mamba2").find("\"mamba2\" is not supported"), std::string::npos);
  EXPECT_NE(error_of([] { parse_model_config("{}", "config.json"); }).find("model_type: is missing"),
            std::string::npos);
}

TEST(RefusedText, ThatIsNoJson) {
  const auto refuse = [](const std::string& text) {
    return error_of([&] { parse_model_config(text, "config.json"); });
  };
  EXPECT_NE(refuse("").find("config.json: not valid JSON: "), std::string::npos);
  EXPECT_NE(refuse("{\n\"a\": tru}").find("line 2"), std::string::npos);
  EXPECT_NE(refuse("[1]").find("must be a JSON object, not [1]"), std::string::npos);
  EXPECT_NE(refuse("{\"a\":Infinityx}").find("not valid JSON"), std::string::npos);
  EXPECT_NE(refuse("{\"a\":1e999}").find("not valid JSON"), std::string::npos);
  EXPECT_NE(refuse("{\"a\":" + std::string(100000, '[')).find("nested deeper than 64"), std::string::npos);
}

TEST(RefusedFiles, ThatAreNotThere) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of([&] { load_model_config(folder / "none"); }).find("/none: does not exist"),
            std::string::npos);
  EXPECT_NE(error_of([&] { load_model_config(folder.path()); }).find("has no config.json"),
            std::string::npos);
  folder.write("config.json", R"({"model_type":"nemotron_h","hybrid_override_pattern":"M"})");
  folder.write("generation_config.json", R"({"eos_token_id":-1})");
  EXPECT_NE(error_of([&] {
              load_model_config(folder.path());
            }).find("generation_config.json: eos_token_id: must be"),
            std::string::npos);
}

/// Flips, removes, doubles and replaces bytes.
std::string mutate(std::string text, std::mt19937& random) {
  const size_t changes = 1 + random() % 4;
  for (size_t i = 0; i < changes && !text.empty(); ++i) {
    const size_t position = random() % text.size();
    switch (random() % 5) {
      case 0:
        text[position] = static_cast<char>(text[position] ^ (1 << random() % 8));
        break;
      case 1:
        text.erase(position, 1 + random() % 8);
        break;
      case 2:
        text.insert(position, text.substr(random() % text.size(), random() % 20));
        break;
      case 3:
        text[position] = "0123456789-eE.,:[]{}\"nN"[random() % 23];
        break;
      case 4:
        text.resize(position);
        break;
    }
  }
  return text;
}

TEST(Mutations, OfPublishedFilesGiveAConfigOrAnError) {
  std::mt19937 random(20240611);
  int num_errors = 0;
  for (const char* folder :
       {"nemotron-3-super-120b-a12b", "nemotron-3.5-lightning-30b-a3b", "nemotron-h-56b"}) {
    const std::string text = read_file(source_path(std::string("configs/models/") + folder + "/config.json"));
    for (int i = 0; i < 1500; ++i) {
      try {
        parse_model_config(mutate(text, random), "config.json");
      } catch (const Error&) {
        ++num_errors;
      }
    }
  }
  EXPECT_GT(num_errors, 1000);
}

}  // namespace
}  // namespace nemo
