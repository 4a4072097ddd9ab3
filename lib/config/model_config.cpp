#include "lib/config/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "kernels/error.h"
#include "lib/config/config_reader.h"
#include "lib/config/json_text.h"
#include "lib/config/model_config_checks.h"
#include "lib/config/model_config_keys.h"
#include "lib/config/model_config_layers.h"
#include "lib/weights/model_files.h"

namespace nemo {
namespace {

using nlohmann::json;

// Ultra's quantization map has 51,000 names; 64 MiB leaves room for ten times that.
constexpr uint64_t kMaxConfigBytes = 64ULL << 20;
constexpr IntRange kHeads = {1, 1 << 16};
constexpr IntRange kHeadDim = {1, 1 << 14};

struct ForeignModel {
  std::string_view name;  ///< a model_type or an architecture
  std::string_view what;
};

constexpr std::array kForeignModels = {
    ForeignModel{"nemotron-nas",
                 "a dense model derived from Llama (Llama-3.1-Nemotron-Ultra-253B among them)"},
    ForeignModel{"DeciLMForCausalLM",
                 "a dense model derived from Llama (Llama-3.1-Nemotron-Ultra-253B among them)"},
    ForeignModel{"nemotron", "a dense transformer with rotary positions (Nemotron-4, Minitron)"},
    ForeignModel{"NemotronForCausalLM", "a dense transformer with rotary positions (Nemotron-4, Minitron)"},
    ForeignModel{"llama", "a dense transformer of the Llama family"},
    ForeignModel{"LlamaForCausalLM", "a dense transformer of the Llama family"},
    ForeignModel{"NemotronHForSequenceClassification",
                 "a nemotron_h with a classification head instead of lm_head"},
};

[[noreturn]] void refuse_model(const ConfigReader& reader, const std::string& key, const std::string& name) {
  std::string what = json_excerpt(json(name)) + " is not supported";
  for (const auto& [foreign, description] : kForeignModels) {
    if (name == foreign)
      what = json_excerpt(json(name)) + " is " + std::string(description) + ", not a nemotron_h";
  }
  reader.fail(key, what, "nemo-dist runs model_type nemotron_h and nemotron_h_puzzle");
}

void read_identity(const ConfigReader& reader, ModelConfig& config) {
  config.model_type = reader.text({"model_type"}, "");
  if (!config.model_type.empty() && config.model_type != "nemotron_h" &&
      config.model_type != "nemotron_h_puzzle") {
    refuse_model(reader, "model_type", config.model_type);
  }
  const json* architectures = reader.find("architectures");
  if (architectures == nullptr || architectures->empty()) {
    if (config.model_type.empty()) {
      reader.fail("model_type", "is missing, and so is architectures",
                  "is this the config.json of a Hugging Face model?");
    }
    return;
  }
  if (!architectures->is_array() || !architectures->front().is_string()) {
    reader.fail("architectures", "must be a list of names, not " + json_excerpt(*architectures), "");
  }
  const std::string architecture = architectures->front().get<std::string>();
  const bool is_puzzle = architecture == "NemotronHPuzzleForCausalLM";
  if (!is_puzzle && architecture != "NemotronHForCausalLM")
    refuse_model(reader, "architectures", architecture);
  if (config.model_type.empty()) config.model_type = is_puzzle ? "nemotron_h_puzzle" : "nemotron_h";
}

std::vector<int32_t> read_token_ids(const ConfigReader& reader, const std::string& key, const json& value,
                                    int64_t vocab_size) {
  const IntRange range = {0, vocab_size - 1};
  if (!value.is_array()) return {static_cast<int32_t>(reader.to_integer(value, key, range))};
  if (value.empty()) reader.fail(key, "is an empty list", "name at least one token that ends a text");
  std::vector<int32_t> ids;
  for (const json& id : value) ids.push_back(static_cast<int32_t>(reader.to_integer(id, key, range)));
  return ids;
}

void read_vocabulary(const ConfigReader& reader, ModelConfig& config) {
  config.vocab_size = reader.integer({"vocab_size"}, 131072, {1, 1 << 24});
  config.hidden_size = reader.integer({"hidden_size"}, 4096, {1, 1 << 18});
  config.tie_word_embeddings = reader.boolean({"tie_word_embeddings"}, false);
  config.max_position_embeddings = reader.integer({"max_position_embeddings"}, 4096, {1, INT32_MAX});
  const IntRange or_none = {-1, config.vocab_size - 1};  // -1: some publishers' "no such token"
  config.bos_token_id = static_cast<int32_t>(reader.integer({"bos_token_id"}, 1, or_none));
  config.pad_token_id = static_cast<int32_t>(reader.integer({"pad_token_id"}, 0, or_none));
  if (const json* eos = reader.find("eos_token_id")) {
    config.eos_token_ids = read_token_ids(reader, "eos_token_id", *eos, config.vocab_size);
  }
  config.dtype = reader.text({"dtype", "torch_dtype"}, "bfloat16");
  const double epsilon = reader.number({"layer_norm_epsilon", "rms_norm_eps", "norm_eps"}, 1e-5);
  if (!(epsilon > 0 && epsilon <= 1)) {
    reader.fail("layer_norm_epsilon",
                "must be greater than 0 and at most 1, not " + json_excerpt(json(epsilon)), "");
  }
  config.layer_norm_epsilon = static_cast<float>(epsilon);
}

void read_attention(const ConfigReader& reader, ModelConfig& config) {
  config.num_attention_heads = reader.integer({"num_attention_heads"}, 32, kHeads);
  config.num_key_value_heads = reader.integer({"num_key_value_heads"}, 8, kHeads);
  config.head_dim = reader.integer({"head_dim", "attention_head_dim"}, 128, kHeadDim);
  config.attention_bias = reader.boolean({"attention_bias"}, false);
  if (const json* window = reader.find("sliding_window")) {
    reader.warn(reader.where() + ": sliding_window is " + json_excerpt(*window) +
                ", but nemotron_h attends to the whole sequence; it is ignored");
  }
}

void read_time_step_limit(const ConfigReader& reader, ModelConfig& config) {
  const json* limit = reader.find({"time_step_limit", "mamba_dt_limit"});
  if (limit == nullptr) return;
  const std::string key = "time_step_limit";
  if (!limit->is_array() || limit->size() != 2) {
    reader.fail(key, "must be a list of two numbers, not " + json_excerpt(*limit), "");
  }
  const double low = reader.to_number((*limit)[0], key + "[0]");
  const double high = reader.to_number((*limit)[1], key + "[1]");
  if (!(low >= 0 && low <= high)) {
    reader.fail(key, "must be 0 <= low <= high, not " + json_excerpt(*limit), "");
  }
  // dt is a float32: a limit beyond its range (Ultra has 1e308) is no limit.
  const auto to_float = [](double value) {
    return value > static_cast<double>(std::numeric_limits<float>::max())
               ? std::numeric_limits<float>::infinity()
               : static_cast<float>(value);
  };
  config.time_step_min = to_float(low);
  config.time_step_max = to_float(high);
}

void read_mamba(const ConfigReader& reader, ModelConfig& config) {
  config.mamba_num_heads = reader.integer({"mamba_num_heads"}, 128, kHeads);
  config.mamba_head_dim = reader.integer({"mamba_head_dim"}, 64, kHeadDim);
  config.n_groups = reader.integer({"n_groups", "mamba_n_groups"}, 8, kHeads);
  config.ssm_state_size = reader.integer({"ssm_state_size"}, 128, kHeadDim);
  config.conv_kernel = reader.integer({"conv_kernel", "mamba_d_conv"}, 4, {1, 256});
  config.use_conv_bias = reader.boolean({"use_conv_bias", "mamba_conv_bias"}, true);
  const bool use_bias = reader.boolean({"use_bias"}, false);
  config.mamba_proj_bias = reader.boolean({"mamba_proj_bias"}, false) || use_bias;
  read_time_step_limit(reader, config);
  const std::string activation = reader.text({"mamba_hidden_act"}, "silu");
  if (activation != "silu") {
    reader.fail("mamba_hidden_act", json_excerpt(json(activation)) + " is not supported", "only silu is");
  }
  const std::string cache = reader.text({"mamba_ssm_cache_dtype"}, "float32");
  if (cache != "float32") {
    reader.warn(reader.where() + ": mamba_ssm_cache_dtype is " + json_excerpt(json(cache)) +
                "; the recurrent state is kept in float32, which is closer to the model");
  }
}

void read_mlp_and_router(const ConfigReader& reader, ModelConfig& config) {
  const std::string activation = reader.text({"mlp_hidden_act"}, "relu2");
  if (activation != "relu2") {
    reader.fail("mlp_hidden_act", json_excerpt(json(activation)) + " is not supported", "only relu2 is");
  }
  if (reader.boolean({"residual_in_fp32"}, false)) {
    reader.fail("residual_in_fp32", "true is not supported", "the residual stream has the job's dtype");
  }
  config.mlp_bias = reader.boolean({"mlp_bias"}, false);
  config.n_group = reader.integer({"n_group"}, 1, {1, 1 << 16});
  config.topk_group = reader.integer({"topk_group"}, 1, {1, 1 << 16});
  config.norm_topk_prob = reader.boolean({"norm_topk_prob"}, true);
  const double scale = reader.number({"routed_scaling_factor"}, 1.0);
  if (!(std::abs(scale) <= 1e6)) {
    reader.fail("routed_scaling_factor", "must be a finite number, not " + json_excerpt(json(scale)), "");
  }
  config.routed_scaling_factor = static_cast<float>(scale);
}

void announce(ModelConfig& config, AnnouncedQuantization announced) {
  if (config.quantization.empty()) config.quantization = announced.summary;
  config.announced_quantization.push_back(std::move(announced));
}

void read_quantization_config(const ConfigReader& reader, ModelConfig& config) {
  const json* value = reader.find("quantization_config");
  if (value == nullptr) return;
  const ConfigReader quantization(*value, reader.where() + ": quantization_config", reader.warnings());
  announce(config, read_quantization(quantization, quantization.text({"quant_method"}, "unknown method")));
}

/// hf_quant_config.json, which the quantized releases have beside config.json.
void read_folder_quantization(const std::string& model_path, ModelConfig& config) {
  const auto text = find_model_file(model_path, "hf_quant_config.json", kMaxConfigBytes);
  if (!text) return;
  const std::string where = model_file_place(model_path, "hf_quant_config.json");
  const json document = parse_json(*text, where);
  const ConfigReader reader(document, where, config.warnings);
  const json* quantization = reader.find("quantization");
  if (quantization == nullptr) return;
  const ConfigReader inner(*quantization, where + ": quantization", config.warnings);
  announce(config, read_quantization(inner, "modelopt"));
}

void apply_generation_config(const std::string& model_path, ModelConfig& config) {
  const auto text = find_model_file(model_path, "generation_config.json", kMaxConfigBytes);
  if (!text) return;
  const std::string where = model_file_place(model_path, "generation_config.json");
  const json document = parse_json(*text, where);
  const ConfigReader reader(document, where, config.warnings);
  if (const json* eos = reader.find("eos_token_id")) {
    config.eos_token_ids = read_token_ids(reader, "eos_token_id", *eos, config.vocab_size);
  }
}

std::string folder_name(const std::filesystem::path& folder) {
  const auto absolute = std::filesystem::absolute(folder).lexically_normal();
  return absolute.has_filename() ? absolute.filename().string() : absolute.parent_path().filename().string();
}

/// The folder's, the pack's or the file's; of a config.json its folder's.
std::string model_name(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return folder_name(path);
  if (path.filename() == "config.json") return folder_name(std::filesystem::absolute(path).parent_path());
  return path.stem().string();
}

}  // namespace

char layer_letter(LayerKind kind) {
  switch (kind) {
    case LayerKind::kMamba:
      return 'M';
    case LayerKind::kAttention:
      return '*';
    case LayerKind::kMlp:
      return '-';
    case LayerKind::kMoe:
      return 'E';
  }
  throw_broken_invariant("kind is a LayerKind", std::to_string(static_cast<int>(kind)));
}

StoredAs announced_storage(const ModelConfig& config, std::string_view name) {
  for (const AnnouncedQuantization& announced : config.announced_quantization) {
    if (const auto stored = announced.find(name)) return *stored;
  }
  return StoredAs::kPlain;
}

ModelConfig parse_model_config(std::string_view json_text, const std::string& where) {
  const json document = parse_json(json_text, where);
  ModelConfig config;
  config.name = where;
  const ConfigReader reader(document, where, config.warnings);
  read_identity(reader, config);
  read_vocabulary(reader, config);
  read_attention(reader, config);
  read_mamba(reader, config);
  read_mlp_and_router(reader, config);
  read_layers(reader, config);
  read_quantization_config(reader, config);
  for (const auto& [key, value] : document.items()) {
    if (!is_known_model_config_key(key)) config.unknown_keys.push_back(key);
  }
  std::sort(config.unknown_keys.begin(), config.unknown_keys.end());
  check_model_config(reader, config);
  return config;
}

ModelConfig load_model_config(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::exists(path)) {
    throw Error(path, "does not exist", "model.path is a Hugging Face folder with a config.json",
                ErrorKind::kBadJob);
  }
  const bool is_file = !fs::is_directory(path) && !is_pack(path);
  const auto text =
      is_file ? read_text_file(path, kMaxConfigBytes) : find_model_file(path, "config.json", kMaxConfigBytes);
  if (!text)
    throw Error(path, "has no config.json", "model.path is a Hugging Face folder with a config.json");
  ModelConfig config = parse_model_config(*text, is_file ? path : model_file_place(path, "config.json"));
  config.name = model_name(path);
  if (is_file) return config;
  apply_generation_config(path, config);
  read_folder_quantization(path, config);
  return config;
}

}  // namespace nemo
