// Three of the four mixers; the fourth, the mixture of experts, has its own header because it is the one that
// is spread over ranks. Each reads the normed rows x [T, H] and writes its output y [T, H] (fp32, to be added
// to the residual stream). nemotron_h.md 2.3 to 2.5.
#pragma once

#include "kernels/ops/mamba2.h"
#include "lib/model/layer_weights.h"
#include "lib/model/step.h"

namespace nemo {

/// in_proj, causal convolution, selective scan, gated norm, out_proj. Updates `state`.
void mamba2_mixer(const Step& step, const Mamba2Layer& layer, const kernels::MambaState& state,
                  kernels::TensorView<const float> x, kernels::TensorView<float> y);

/// Projections, append to the KV pages, attention over them, o_proj. Updates `pages`.
void attention_mixer(const Step& step, const AttentionLayer& layer, const kernels::KvPages& pages,
                     kernels::TensorView<const float> x, kernels::TensorView<float> y);

/// The two halves of an MLP: hidden [T, I] = relu(up x)^2, y = down hidden.
void mlp_up(const Step& step, const MlpLayer& layer, kernels::TensorView<const float> x,
            kernels::TensorView<float> hidden);
void mlp_down(const Step& step, const MlpLayer& layer, kernels::TensorView<const float> hidden,
              kernels::TensorView<float> y);
/// down(relu(up x)^2); also the shared expert of a MoE layer.
void mlp_mixer(const Step& step, const MlpLayer& layer, kernels::TensorView<const float> x,
               kernels::TensorView<float> y);

}  // namespace nemo
