#include "lib/weights/tensor_names.h"

#include <array>

#include "kernels/error.h"

namespace nemo {
namespace {

struct RoleName {
  TensorRole role;
  std::string_view suffix;  ///< after "layers.<i>." or "mtp.layers.<i>.", or the whole name outside of layers
  Keep keep;
};

constexpr Keep kMatrix = Keep::kJobDType;
constexpr Keep kSmall = Keep::kFloat32;

// One row a tensor. Routed experts are listed in the stacked form; expert_tensor_name gives one expert's.
constexpr std::array kRoleNames = {
    RoleName{TensorRole::kEmbedding, "embeddings.weight", kMatrix},
    RoleName{TensorRole::kFinalNorm, "norm_f.weight", kSmall},
    RoleName{TensorRole::kLmHead, "lm_head.weight", kMatrix},
    RoleName{TensorRole::kNorm, "norm.weight", kSmall},
    RoleName{TensorRole::kInProj, "mixer.in_proj.weight", kMatrix},
    RoleName{TensorRole::kInProjBias, "mixer.in_proj.bias", kSmall},
    RoleName{TensorRole::kConvWeight, "mixer.conv1d.weight", kSmall},
    RoleName{TensorRole::kConvBias, "mixer.conv1d.bias", kSmall},
    RoleName{TensorRole::kALog, "mixer.A_log", kSmall},
    RoleName{TensorRole::kD, "mixer.D", kSmall},
    RoleName{TensorRole::kDtBias, "mixer.dt_bias", kSmall},
    RoleName{TensorRole::kGatedNorm, "mixer.norm.weight", kSmall},
    RoleName{TensorRole::kOutProj, "mixer.out_proj.weight", kMatrix},
    RoleName{TensorRole::kOutProjBias, "mixer.out_proj.bias", kSmall},
    RoleName{TensorRole::kQProj, "mixer.q_proj.weight", kMatrix},
    RoleName{TensorRole::kKProj, "mixer.k_proj.weight", kMatrix},
    RoleName{TensorRole::kVProj, "mixer.v_proj.weight", kMatrix},
    RoleName{TensorRole::kOProj, "mixer.o_proj.weight", kMatrix},
    RoleName{TensorRole::kQBias, "mixer.q_proj.bias", kSmall},
    RoleName{TensorRole::kKBias, "mixer.k_proj.bias", kSmall},
    RoleName{TensorRole::kVBias, "mixer.v_proj.bias", kSmall},
    RoleName{TensorRole::kOBias, "mixer.o_proj.bias", kSmall},
    RoleName{TensorRole::kKScale, "mixer.k_proj.k_scale", kSmall},
    RoleName{TensorRole::kVScale, "mixer.v_proj.v_scale", kSmall},
    RoleName{TensorRole::kUpProj, "mixer.up_proj.weight", kMatrix},
    RoleName{TensorRole::kDownProj, "mixer.down_proj.weight", kMatrix},
    RoleName{TensorRole::kUpBias, "mixer.up_proj.bias", kSmall},
    RoleName{TensorRole::kDownBias, "mixer.down_proj.bias", kSmall},
    RoleName{TensorRole::kRouter, "mixer.gate.weight", kSmall},
    RoleName{TensorRole::kRouterBias, "mixer.gate.e_score_correction_bias", kSmall},
    RoleName{TensorRole::kExpertUp, "mixer.experts.up_proj", kMatrix},
    RoleName{TensorRole::kExpertDown, "mixer.experts.down_proj", kMatrix},
    RoleName{TensorRole::kSharedUp, "mixer.shared_experts.up_proj.weight", kMatrix},
    RoleName{TensorRole::kSharedDown, "mixer.shared_experts.down_proj.weight", kMatrix},
    RoleName{TensorRole::kSharedUpBias, "mixer.shared_experts.up_proj.bias", kSmall},
    RoleName{TensorRole::kSharedDownBias, "mixer.shared_experts.down_proj.bias", kSmall},
    RoleName{TensorRole::kLatentIn, "mixer.fc1_latent_proj.weight", kMatrix},
    RoleName{TensorRole::kLatentOut, "mixer.fc2_latent_proj.weight", kMatrix},
    RoleName{TensorRole::kLatentInBias, "mixer.fc1_latent_proj.bias", kSmall},
    RoleName{TensorRole::kLatentOutBias, "mixer.fc2_latent_proj.bias", kSmall},
    RoleName{TensorRole::kMtpEmbeddingNorm, "enorm.weight", kSmall},
    RoleName{TensorRole::kMtpHiddenNorm, "hnorm.weight", kSmall},
    RoleName{TensorRole::kMtpInProj, "eh_proj.weight", kMatrix},
    RoleName{TensorRole::kMtpFinalNorm, "final_layernorm.weight", kSmall},
};

const RoleName& role_name(TensorRole role) {
  for (const RoleName& entry : kRoleNames) {
    if (entry.role == role) return entry;
  }
  throw_broken_invariant("role is in kRoleNames", std::to_string(static_cast<int>(role)));
}

/// Collects the tensors of one layer whose names begin with `prefix`.
class LayerTable {
 public:
  LayerTable(const ModelConfig& config, const LayerConfig& layer, std::string prefix)
      : config_(config), layer_(layer), prefix_(std::move(prefix)) {}

  std::vector<TensorSpec> build() {
    add(TensorRole::kNorm, {config_.hidden_size});
    switch (layer_.kind) {
      case LayerKind::kMamba:
        add_mamba();
        break;
      case LayerKind::kAttention:
        add_attention();
        break;
      case LayerKind::kMlp:
        add_mlp();
        break;
      case LayerKind::kMoe:
        add_moe();
        break;
    }
    return std::move(specs_);
  }

 private:
  void add(TensorRole role, std::vector<int64_t> shape, Split split = Split::kStage) {
    const RoleName& entry = role_name(role);
    specs_.push_back({role, prefix_ + std::string(entry.suffix), std::move(shape), entry.keep, split});
  }

  void add_mamba() {
    const int64_t hidden = config_.hidden_size;
    const int64_t inner = config_.mamba_inner_size();
    add(TensorRole::kInProj, {config_.in_proj_size(), hidden});
    if (config_.mamba_proj_bias) add(TensorRole::kInProjBias, {config_.in_proj_size()});
    add(TensorRole::kConvWeight, {config_.conv_dim(), 1, config_.conv_kernel});
    if (config_.use_conv_bias) add(TensorRole::kConvBias, {config_.conv_dim()});
    add(TensorRole::kALog, {config_.mamba_num_heads});
    add(TensorRole::kD, {config_.mamba_num_heads});
    add(TensorRole::kDtBias, {config_.mamba_num_heads});
    add(TensorRole::kGatedNorm, {inner});
    add(TensorRole::kOutProj, {hidden, inner});
    if (config_.mamba_proj_bias) add(TensorRole::kOutProjBias, {hidden});
  }

  void add_attention() {
    const int64_t hidden = config_.hidden_size;
    const int64_t q_rows = config_.num_attention_heads * config_.head_dim;
    const int64_t kv_rows = config_.num_key_value_heads * config_.head_dim;
    add(TensorRole::kQProj, {q_rows, hidden});
    add(TensorRole::kKProj, {kv_rows, hidden});
    add(TensorRole::kVProj, {kv_rows, hidden});
    add(TensorRole::kOProj, {hidden, q_rows});
    if (!config_.attention_bias) return;
    add(TensorRole::kQBias, {q_rows});
    add(TensorRole::kKBias, {kv_rows});
    add(TensorRole::kVBias, {kv_rows});
    add(TensorRole::kOBias, {hidden});
  }

  void add_mlp() {
    const int64_t hidden = config_.hidden_size;
    add(TensorRole::kUpProj, {layer_.intermediate_size, hidden});
    add(TensorRole::kDownProj, {hidden, layer_.intermediate_size});
    if (!config_.mlp_bias) return;
    add(TensorRole::kUpBias, {layer_.intermediate_size});
    add(TensorRole::kDownBias, {hidden});
  }

  void add_moe() {
    const int64_t hidden = config_.hidden_size;
    const int64_t experts = layer_.n_routed_experts;
    const int64_t width = layer_.moe_intermediate_size;
    const int64_t expert_io = config_.expert_io_size(layer_);
    add(TensorRole::kRouter, {experts, hidden});
    add(TensorRole::kRouterBias, {experts});
    add(TensorRole::kExpertUp, {experts, width, expert_io}, Split::kByExpert);
    add(TensorRole::kExpertDown, {experts, expert_io, width}, Split::kByExpert);
    if (layer_.moe_latent_size > 0) add_latent_projections();
    if (layer_.shared_intermediate_size > 0) add_shared_expert();
  }

  // mlp_bias reaches everything of a mixture but the router and the routed experts themselves.
  void add_latent_projections() {
    add(TensorRole::kLatentIn, {layer_.moe_latent_size, config_.hidden_size});
    add(TensorRole::kLatentOut, {config_.hidden_size, layer_.moe_latent_size});
    if (!config_.mlp_bias) return;
    add(TensorRole::kLatentInBias, {layer_.moe_latent_size});
    add(TensorRole::kLatentOutBias, {config_.hidden_size});
  }

  void add_shared_expert() {
    add(TensorRole::kSharedUp, {layer_.shared_intermediate_size, config_.hidden_size});
    add(TensorRole::kSharedDown, {config_.hidden_size, layer_.shared_intermediate_size});
    if (!config_.mlp_bias) return;
    add(TensorRole::kSharedUpBias, {layer_.shared_intermediate_size});
    add(TensorRole::kSharedDownBias, {config_.hidden_size});
  }

  const ModelConfig& config_;
  const LayerConfig& layer_;
  std::string prefix_;
  std::vector<TensorSpec> specs_;
};

std::string layer_prefix(int64_t layer_idx) {
  return "layers." + std::to_string(layer_idx) + ".";
}

TensorSpec single(TensorRole role, const std::string& prefix, std::vector<int64_t> shape, Split split) {
  const RoleName& entry = role_name(role);
  return {role, prefix + std::string(entry.suffix), std::move(shape), entry.keep, split};
}

bool is_outside_of_layers(TensorRole role) {
  return role == TensorRole::kEmbedding || role == TensorRole::kFinalNorm || role == TensorRole::kLmHead;
}

}  // namespace

int64_t TensorSpec::num_elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

std::vector<TensorSpec> layer_tensors(const ModelConfig& config, int64_t layer_idx) {
  NEMO_CHECK(layer_idx >= 0 && layer_idx < config.num_layers(), std::to_string(layer_idx));
  return layer_tensors(config, config.layers[static_cast<size_t>(layer_idx)], layer_prefix(layer_idx));
}

std::vector<TensorSpec> layer_tensors(const ModelConfig& config, const LayerConfig& layer,
                                      const std::string& prefix) {
  return LayerTable(config, layer, prefix).build();
}

std::vector<TensorSpec> outer_tensors(const ModelConfig& config) {
  std::vector<TensorSpec> specs;
  specs.push_back(
      single(TensorRole::kEmbedding, "", {config.vocab_size, config.hidden_size}, Split::kFirstStage));
  specs.push_back(single(TensorRole::kFinalNorm, "", {config.hidden_size}, Split::kLastStage));
  if (!config.tie_word_embeddings) {
    specs.push_back(
        single(TensorRole::kLmHead, "", {config.vocab_size, config.hidden_size}, Split::kLastStage));
  }
  return specs;
}

std::vector<TensorSpec> kv_scale_tensors(const ModelConfig& config) {
  std::vector<TensorSpec> specs;
  for (int64_t i = 0; i < config.num_layers(); ++i) {
    if (config.layers[static_cast<size_t>(i)].kind != LayerKind::kAttention) continue;
    for (const TensorRole role : {TensorRole::kKScale, TensorRole::kVScale})
      specs.push_back(single(role, layer_prefix(i), {}, Split::kStage));
  }
  return specs;
}

std::vector<TensorSpec> mtp_tensors(const ModelConfig& config) {
  std::vector<TensorSpec> specs;
  if (config.num_nextn_predict_layers == 0) return specs;
  const size_t depth = static_cast<size_t>(config.num_nextn_predict_layers);
  NEMO_CHECK(config.mtp_layers.size() % depth == 0, "MTP sublayers and depth");
  const size_t num_sublayers = config.mtp_layers.size() / depth;
  const int64_t hidden = config.hidden_size;
  for (size_t i = 0; i < config.mtp_layers.size(); ++i) {
    const std::string prefix = "mtp." + layer_prefix(static_cast<int64_t>(i));
    if (i % num_sublayers == 0) {
      specs.push_back(single(TensorRole::kMtpEmbeddingNorm, prefix, {hidden}, Split::kNotLoaded));
      specs.push_back(single(TensorRole::kMtpHiddenNorm, prefix, {hidden}, Split::kNotLoaded));
      specs.push_back(single(TensorRole::kMtpInProj, prefix, {hidden, 2 * hidden}, Split::kNotLoaded));
    }
    for (TensorSpec& spec : layer_tensors(config, config.mtp_layers[i], prefix)) {
      spec.split = Split::kNotLoaded;
      specs.push_back(std::move(spec));
    }
    if (i % num_sublayers == num_sublayers - 1) {
      specs.push_back(single(TensorRole::kMtpFinalNorm, prefix, {hidden}, Split::kNotLoaded));
    }
  }
  return specs;
}

std::vector<TensorSpec> model_tensors(const ModelConfig& config) {
  std::vector<TensorSpec> specs = outer_tensors(config);
  for (int64_t i = 0; i < config.num_layers(); ++i) {
    for (TensorSpec& spec : layer_tensors(config, i)) specs.push_back(std::move(spec));
  }
  return specs;
}

std::string tensor_name(TensorRole role, int64_t layer_idx) {
  const std::string suffix(role_name(role).suffix);
  return is_outside_of_layers(role) ? suffix : layer_prefix(layer_idx) + suffix;
}

std::string expert_tensor_name(TensorRole role, int64_t layer_idx, int64_t expert_id) {
  NEMO_CHECK(role == TensorRole::kExpertUp || role == TensorRole::kExpertDown, "a role of routed experts");
  const char* matrix = role == TensorRole::kExpertUp ? ".up_proj.weight" : ".down_proj.weight";
  return layer_prefix(layer_idx) + "mixer.experts." + std::to_string(expert_id) + matrix;
}

std::string expert_tensor_name(std::string_view stacked, int64_t expert_id) {
  const size_t cut = stacked.rfind('.');
  return std::string(stacked.substr(0, cut)) + "." + std::to_string(expert_id) +
         std::string(stacked.substr(cut)) + ".weight";
}

}  // namespace nemo
