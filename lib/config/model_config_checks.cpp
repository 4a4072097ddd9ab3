#include "lib/config/model_config_checks.h"

#include <algorithm>

#include "lib/weights/tensor_names.h"

namespace nemo {
namespace {

// A thousand times the largest published model: what is above is a broken or hostile file, and below nothing
// overflows int64 when bytes are counted.
constexpr double kMaxParameters = 1e15;

bool has_kind(const ModelConfig& config, LayerKind kind) {
  return std::any_of(config.layers.begin(), config.layers.end(),
                     [&](const LayerConfig& layer) { return layer.kind == kind; });
}

void check_divides(const ConfigReader& reader, const char* key, int64_t value, const char* divisor_key,
                   int64_t divisor) {
  if (value % divisor == 0) return;
  reader.fail(key,
              std::to_string(value) + " is not a multiple of " + divisor_key + " " + std::to_string(divisor),
              "");
}

void check_moe_layer(const ConfigReader& reader, const ModelConfig& config, const LayerConfig& layer) {
  const int64_t experts = layer.n_routed_experts;
  check_divides(reader, "n_routed_experts", experts, "n_group", config.n_group);
  if (config.topk_group > config.n_group) {
    reader.fail("topk_group",
                std::to_string(config.topk_group) + " is more than n_group " + std::to_string(config.n_group),
                "");
  }
  const int64_t group_size = experts / config.n_group;
  if (config.n_group > 1 && group_size < 2) {
    reader.fail("n_group", "leaves one expert in each group, but a group's score is the sum of its best two",
                "");
  }
  const int64_t candidates = config.topk_group * group_size;
  if (layer.num_experts_per_tok > candidates) {
    reader.fail("num_experts_per_tok",
                std::to_string(layer.num_experts_per_tok) + " is more than the " +
                    std::to_string(candidates) + " experts a token may choose from",
                "");
  }
}

void check_parameter_count(const ConfigReader& reader, const ModelConfig& config) {
  double parameters = 0;
  const auto add = [&](const TensorSpec& spec) {
    double product = 1;
    for (const int64_t size : spec.shape) product *= static_cast<double>(size);
    parameters += product;
  };
  for (const TensorSpec& spec : model_tensors(config)) add(spec);
  for (const TensorSpec& spec : mtp_tensors(config)) add(spec);
  if (parameters > kMaxParameters) {
    reader.fail("hidden_size", "the sizes make more than 10^15 parameters",
                "the file is damaged or not meant to be run");
  }
}

}  // namespace

void check_model_config(const ConfigReader& reader, const ModelConfig& config) {
  if (has_kind(config, LayerKind::kAttention) || !config.mtp_layers.empty()) {
    check_divides(reader, "num_attention_heads", config.num_attention_heads, "num_key_value_heads",
                  config.num_key_value_heads);
  }
  if (has_kind(config, LayerKind::kMamba)) {
    check_divides(reader, "mamba_num_heads", config.mamba_num_heads, "n_groups", config.n_groups);
  }
  for (const auto* layers : {&config.layers, &config.mtp_layers}) {
    for (const LayerConfig& layer : *layers) {
      if (layer.kind == LayerKind::kMoe) check_moe_layer(reader, config, layer);
    }
  }
  check_parameter_count(reader, config);
}

}  // namespace nemo
