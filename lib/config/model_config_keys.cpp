#include "lib/config/model_config_keys.h"

#include <algorithm>
#include <array>

namespace nemo {
namespace {

constexpr KeyUse kUsed = KeyUse::kUsed;
constexpr KeyUse kIgnored = KeyUse::kIgnored;

constexpr auto kKeys = std::to_array<ModelConfigKey>({
    {"architectures", kUsed, "refused by name if another model's"},
    {"model_type", kUsed, "nemotron_h or nemotron_h_puzzle"},
    {"vocab_size", kUsed, ""},
    {"hidden_size", kUsed, ""},
    {"tie_word_embeddings", kUsed, ""},
    {"dtype", kUsed, "informational"},
    {"torch_dtype", kUsed, "old spelling of dtype"},
    {"bos_token_id", kUsed, ""},
    {"eos_token_id", kUsed, "an integer or a list; generation_config.json wins"},
    {"pad_token_id", kUsed, ""},
    {"max_position_embeddings", kUsed, "the longest sequence; there are no positional tables"},
    {"layer_norm_epsilon", kUsed, "read first"},
    {"rms_norm_eps", kUsed, "read second"},
    {"norm_eps", kUsed, "read third"},
    {"quantization_config", kUsed, "announces quantized tensors; the tensors themselves decide"},
    // layout
    {"hybrid_override_pattern", kUsed, "one letter a layer: M * E -"},
    {"layers_block_type", kUsed, "list of words; wins over the pattern"},
    {"layer_types", kUsed, "alias of layers_block_type"},
    {"block_configs", kUsed, "Puzzle: one object a layer"},
    {"num_hidden_layers", kUsed, "derived; another value only warns"},
    {"mtp_hybrid_override_pattern", kUsed, ""},
    {"mtp_layers_block_type", kUsed, ""},
    {"mtp_block_configs", kUsed, "Puzzle: one object an MTP sublayer"},
    {"mtp_n_routed_experts", kUsed, "Puzzle: n_routed_experts of the MTP head"},
    {"num_nextn_predict_layers", kUsed, "depth of the MTP head"},
    // attention
    {"num_attention_heads", kUsed, ""},
    {"num_key_value_heads", kUsed, ""},
    {"head_dim", kUsed, ""},
    {"attention_head_dim", kUsed, "old spelling of head_dim"},
    {"attention_bias", kUsed, ""},
    // Mamba-2
    {"mamba_num_heads", kUsed, ""},
    {"mamba_head_dim", kUsed, ""},
    {"n_groups", kUsed, "of Mamba; n_group is the router's"},
    {"mamba_n_groups", kUsed, "old spelling of n_groups"},
    {"ssm_state_size", kUsed, ""},
    {"conv_kernel", kUsed, ""},
    {"mamba_d_conv", kUsed, "old spelling of conv_kernel"},
    {"use_conv_bias", kUsed, ""},
    {"mamba_conv_bias", kUsed, "old spelling of use_conv_bias"},
    {"use_bias", kUsed, "bias of in_proj and out_proj"},
    {"mamba_proj_bias", kUsed, "the same"},
    {"mamba_hidden_act", kUsed, "must be silu"},
    {"time_step_limit", kUsed, "clamp of dt"},
    {"mamba_dt_limit", kUsed, "old spelling of time_step_limit"},
    {"mamba_ssm_cache_dtype", kUsed, "we keep float32; another value only warns"},
    // MLP and mixture of experts
    {"intermediate_size", kUsed, "of '-' layers; an integer or a list"},
    {"mlp_hidden_act", kUsed, "must be relu2"},
    {"mlp_bias", kUsed, ""},
    {"n_routed_experts", kUsed, ""},
    {"num_local_experts", kUsed, "alias of n_routed_experts"},
    {"num_experts_per_tok", kUsed, ""},
    {"moe_intermediate_size", kUsed, ""},
    {"n_shared_experts", kUsed, ""},
    {"moe_shared_expert_intermediate_size", kUsed, ""},
    {"moe_latent_size", kUsed, ""},
    {"routed_scaling_factor", kUsed, ""},
    {"norm_topk_prob", kUsed, ""},
    {"n_group", kUsed, ""},
    {"topk_group", kUsed, ""},
    {"residual_in_fp32", kUsed, "must be false"},
    {"sliding_window", kUsed, "no window is applied; a value only warns"},
    // ignored on purpose
    {"rope_theta", kIgnored, "nemotron_h has no positional embedding"},
    {"rope_scaling", kIgnored, "nemotron_h has no positional embedding"},
    {"rope_parameters", kIgnored, "nemotron_h has no positional embedding"},
    {"partial_rotary_factor", kIgnored, "nemotron_h has no positional embedding"},
    {"attention_dropout", kIgnored, "training only"},
    {"hidden_dropout", kIgnored, "training only"},
    {"expand", kIgnored, "the inner size is mamba_num_heads * mamba_head_dim, always"},
    {"mamba_expand", kIgnored, "the inner size is mamba_num_heads * mamba_head_dim, always"},
    {"chunk_size", kIgnored, "any chunk gives the same result; ours is a token"},
    {"mamba_chunk_size", kIgnored, "any chunk gives the same result; ours is a token"},
    {"time_step_min", kIgnored, "initialisation only; clamping dt by it is an error"},
    {"time_step_max", kIgnored, "initialisation only"},
    {"time_step_floor", kIgnored, "initialisation only"},
    {"time_step_rank", kIgnored, "initialisation only"},
    {"mamba_dt_min", kIgnored, "initialisation only"},
    {"mamba_dt_max", kIgnored, "initialisation only"},
    {"mamba_dt_init_floor", kIgnored, "initialisation only"},
    {"rescale_prenorm_residual", kIgnored, "initialisation only"},
    {"initializer_range", kIgnored, "initialisation only"},
    {"moe_shared_expert_overlap", kIgnored, "a hint about streams"},
    {"use_mamba_kernels", kIgnored, "a hint about kernels"},
    {"num_logits_to_keep", kIgnored, "an argument of another program"},
    {"use_cache", kIgnored, "an argument of another program"},
    {"auto_map", kIgnored, "where another program finds its code"},
    {"transformers_version", kIgnored, "who wrote the file"},
});

constexpr auto kBlockKeys = std::to_array<std::string_view>({
    "block_type",
    "intermediate_size",
    "moe_intermediate_size",
    "n_routed_experts",
    "num_experts_per_tok",
    "moe_latent_size",
    "n_shared_experts",
    "moe_shared_expert_intermediate_size",
});

}  // namespace

std::span<const ModelConfigKey> model_config_keys() {
  return kKeys;
}

bool is_known_model_config_key(std::string_view name) {
  if (name.starts_with('_')) return true;
  return std::any_of(kKeys.begin(), kKeys.end(), [&](const ModelConfigKey& key) { return key.name == name; });
}

bool is_known_block_config_key(std::string_view name) {
  return name.starts_with('_') || std::find(kBlockKeys.begin(), kBlockKeys.end(), name) != kBlockKeys.end();
}

}  // namespace nemo
