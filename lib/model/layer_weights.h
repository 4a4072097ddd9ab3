// The weights of the layers a rank holds, in kernel layout, and their loading. Owners; move-only through
// PackedMatrix.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "kernels/ops/elementwise.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/tree_sum.h"
#include "lib/config/model_config.h"
#include "lib/weights/checkpoint.h"

namespace nemo {

/// y = x W^T (+ b). The bias is empty where the config has none.
struct Linear {
  kernels::PackedMatrix weight;
  std::vector<float> bias;

  void operator()(const kernels::Context& context, kernels::TensorView<const float> x,
                  kernels::TensorView<float> y) const {
    kernels::matmul(context, x, weight, y);
    if (!bias.empty()) kernels::add_bias(context, bias, y);
  }
};

struct Mamba2Layer {
  Linear in_proj;                        ///< [inner + conv_dim + num_heads, H]: rows z | x B C | dt
  std::vector<float> conv_weight;        ///< [conv_dim, conv_kernel]
  std::vector<float> conv_bias;          ///< [conv_dim] or empty
  std::vector<float> a_log, d, dt_bias;  ///< [num_heads]
  std::vector<float> norm;               ///< [inner], of the gated norm
  Linear out_proj;                       ///< [H, inner]
};

struct AttentionLayer {
  Linear q_proj, k_proj, v_proj;  ///< [heads * head_dim, H]
  Linear o_proj;                  ///< [H, heads * head_dim]
};

struct MlpLayer {
  Linear up_proj;    ///< [F, H]
  Linear down_proj;  ///< [H, F]
};

struct MoeLayer {
  kernels::PackedMatrix router;        ///< [E, H], always float32
  std::vector<float> correction_bias;  ///< [E]
  std::optional<MlpLayer> shared;
  std::optional<Linear> latent_in;          ///< [L, H]
  std::optional<Linear> latent_out;         ///< [H, L]
  kernels::ExpertRange experts;             ///< the block of routed experts that is here
  std::vector<kernels::PackedMatrix> up;    ///< of each expert in the block, [I, X], X = L or H
  std::vector<kernels::PackedMatrix> down;  ///< [X, I]
};

struct Layer {
  std::vector<float> norm;  ///< [H]
  std::variant<Mamba2Layer, AttentionLayer, MlpLayer, MoeLayer> mixer;
};

/// The final norm and the output projection.
struct LmHead {
  std::vector<float> norm;       ///< [H]
  kernels::PackedMatrix weight;  ///< [V, H]
};

/// Reads layer `layer_idx`; of a MoE layer only the routed experts in `experts`. Quantized matrices stay FP8
/// or NVFP4 (the embedding's rows are widened), other matrices are kept as `dtype`, the router, norms, biases
/// and Mamba vectors as float32. Throws Error naming tensor and file.
Layer load_layer(const Checkpoint& checkpoint, const ModelConfig& config, int64_t layer_idx,
                 kernels::ExpertRange experts, kernels::DType dtype);
kernels::EmbeddingTable load_embedding(const Checkpoint& checkpoint, const ModelConfig& config,
                                       kernels::DType dtype);
LmHead load_lm_head(const Checkpoint& checkpoint, const ModelConfig& config, kernels::DType dtype);

}  // namespace nemo
