// ModelConfig: the hyper-parameters of a nemotron_h model under their Hugging Face names, read from
// config.json in every published spelling (nemotron_h.md section 1), validated once, then const. Per-layer
// values (Puzzle's block_configs, list-valued intermediate_size) are resolved here, so nobody else has to
// know about them.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/config/quantization.h"

namespace nemo {

enum class LayerKind : uint8_t { kMamba, kAttention, kMlp, kMoe };

/// 'M', '*', '-' or 'E'.
char layer_letter(LayerKind kind);

/// One residual block: one norm, one mixer. Only the fields of its own kind are meaningful.
struct LayerConfig {
  LayerKind kind = LayerKind::kMamba;
  int64_t intermediate_size = 0;      ///< '-': width of the MLP
  int64_t n_routed_experts = 0;       ///< 'E'
  int64_t num_experts_per_tok = 0;    ///< 'E'
  int64_t moe_intermediate_size = 0;  ///< 'E': width of one routed expert
  int64_t moe_latent_size = 0;        ///< 'E': 0 = experts work on hidden_size
  int64_t shared_intermediate_size =
      0;  ///< 'E': n_shared_experts * moe_shared_expert_intermediate_size; 0 = none
};

struct ModelConfig {
  std::string name;  ///< the folder's or file's name, for people
  std::string model_type;
  int64_t vocab_size = 131072;
  int64_t hidden_size = 4096;
  bool tie_word_embeddings = false;
  std::vector<LayerConfig> layers;

  // Attention
  int64_t num_attention_heads = 32;
  int64_t num_key_value_heads = 8;
  int64_t head_dim = 128;
  bool attention_bias = false;
  int64_t max_position_embeddings = 4096;  ///< the longest sequence we accept; there are no positional tables

  // Mamba-2
  int64_t mamba_num_heads = 128;
  int64_t mamba_head_dim = 64;
  int64_t n_groups = 8;
  int64_t ssm_state_size = 128;
  int64_t conv_kernel = 4;
  bool use_conv_bias = true;
  bool mamba_proj_bias = false;  ///< in_proj and out_proj (use_bias or mamba_proj_bias)
  float time_step_min =
      0.0f;  ///< clamp of dt from time_step_limit: [0, inf) = none. Never the init-only time_step_min
  float time_step_max = std::numeric_limits<float>::infinity();

  // MLP and MoE
  bool mlp_bias = false;  ///< of '-' layers, shared experts and latent projections; never of routed experts
  int64_t n_group = 1;
  int64_t topk_group = 1;
  bool norm_topk_prob = true;
  float routed_scaling_factor = 1.0f;

  float layer_norm_epsilon = 1e-5f;
  int32_t bos_token_id = 1;
  std::vector<int32_t> eos_token_ids = {2};
  int32_t pad_token_id = 0;
  std::string dtype = "bfloat16";  ///< of the checkpoint as config.json states it; informational
  std::string quantization;  ///< as the files announce it, "modelopt NVFP4"; empty = none. Tensors decide
  std::vector<AnnouncedQuantization> announced_quantization;  ///< config.json's, then hf_quant_config.json's

  /// Sublayers of the multi-token-prediction head, depth after depth; counted by --plan but not run.
  std::vector<LayerConfig> mtp_layers;
  int64_t num_nextn_predict_layers = 0;  ///< its depth; mtp_layers has a multiple of it

  std::vector<std::string> unknown_keys;  ///< keys of config.json we know nothing about, sorted
  std::vector<std::string> warnings;  ///< what people should hear about: contradictions and how we decided

  int64_t mamba_inner_size() const { return mamba_num_heads * mamba_head_dim; }
  int64_t conv_dim() const { return mamba_inner_size() + 2 * n_groups * ssm_state_size; }
  int64_t in_proj_size() const { return mamba_inner_size() + conv_dim() + mamba_num_heads; }
  int64_t num_layers() const { return static_cast<int64_t>(layers.size()); }
  /// The width routed experts of `layer` read and write: latent or hidden.
  int64_t expert_io_size(const LayerConfig& layer) const {
    return layer.moe_latent_size > 0 ? layer.moe_latent_size : hidden_size;
  }
};

/// Reads `path`: a config.json, or a folder that holds one (then generation_config.json's eos_token_id, if
/// there, wins). Throws Error naming file, key, what is wrong and what to do; unknown architectures are
/// refused by name.
ModelConfig load_model_config(const std::string& path);

/// The same from text; `where` names it in errors. For tests and for packs that hold the text inside.
ModelConfig parse_model_config(std::string_view json_text, const std::string& where);

/// How a matrix is stored, as far as the files announce it: the first announcement that says something about
/// it, otherwise plain. `name` is a logical tensor name, of routed experts one expert's own.
StoredAs announced_storage(const ModelConfig& config, std::string_view name);

}  // namespace nemo
