// Choice of routed experts. nemotron_h.md 2.6 steps 2 to 4. fp32; equal scores go to the lower expert index.
#pragma once

#include <span>

#include "kernels/context.h"

namespace nemo::kernels {

struct RouterShape {
  int64_t num_experts = 0;
  int64_t top_k = 0;
  int64_t num_groups = 1;       ///< n_group
  int64_t num_kept_groups = 1;  ///< topk_group
  bool normalize = true;        ///< norm_topk_prob
  float scaling_factor = 1.0f;
};

/// s = sigmoid(logits); chosen by s + correction_bias (within the kept groups; a group's score is the sum of
/// its two largest); weight = s, divided by the chosen sum + 1e-20 (added in rising expert index) if
/// normalize, times scaling_factor. logits [rows, num_experts]. expert_ids, weights [rows, top_k], sorted by
/// rising expert id. NaN scores count as minus infinity, so that the choice is always top_k distinct experts.
void route(const Context& context, TensorView<const float> logits, std::span<const float> correction_bias,
           const RouterShape& shape, TensorView<int32_t> expert_ids, TensorView<float> weights);

}  // namespace nemo::kernels
