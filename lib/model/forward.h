// The parts of a forward pass that every engine shares: one residual block, and the logits.
#pragma once

#include <span>
#include <variant>

#include "lib/model/layer_weights.h"
#include "lib/model/mixers.h"
#include "lib/model/moe.h"
#include "lib/model/step.h"
#include "lib/state/state_cache.h"

namespace nemo {

/// One residual block: stream += mixer(norm(stream)). stream [T, H]. `moe` runs a mixture-of-experts layer:
/// moe(layer_config, layer, x, y) — moe_mixer on one rank, the exchange of dist/moe on many.
template <class MoeFunction>
void forward_layer(const Step& step, int64_t layer_idx, const Layer& layer, StateCache& state,
                   kernels::TensorView<float> stream, MoeFunction&& moe) {
  Workspace::Frame frame(step.workspace);
  auto x = step.workspace.tensor<float>(stream.rows, stream.cols);
  auto y = step.workspace.tensor<float>(stream.rows, stream.cols);
  kernels::rms_norm(step.context, stream, layer.norm, step.config.layer_norm_epsilon, x);
  struct Visitor {
    const Step& step;
    int64_t layer_idx;
    StateCache& state;
    kernels::TensorView<const float> x;
    kernels::TensorView<float> y;
    MoeFunction& moe;
    void operator()(const Mamba2Layer& mixer) { mamba2_mixer(step, mixer, state.mamba(layer_idx), x, y); }
    void operator()(const AttentionLayer& mixer) { attention_mixer(step, mixer, state.kv(layer_idx), x, y); }
    void operator()(const MlpLayer& mixer) { mlp_mixer(step, mixer, x, y); }
    void operator()(const MoeLayer& mixer) {
      moe(step.config.layers[static_cast<size_t>(layer_idx)], mixer, x, y);
    }
  };
  std::visit(Visitor{step, layer_idx, state, x, y, moe}, layer.mixer);
  kernels::add_residual(step.context, y, stream);
}

/// logits [R, V] of rows of the final residual stream [R, H]. fp32, not rounded.
void forward_lm_head(const kernels::Context& context, const ModelConfig& config, Workspace& workspace,
                     const LmHead& head, kernels::TensorView<const float> stream,
                     kernels::TensorView<float> logits);

}  // namespace nemo
