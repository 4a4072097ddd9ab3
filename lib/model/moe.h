// The local pieces of a mixture-of-experts layer, in the order a token meets them: route_tokens,
// expert_input, (dispatch to the ranks that own the chosen experts), expert_partial_sums, (combine),
// finish_moe. dist/moe puts the exchange between them; moe_mixer is the composition on one rank.
// nemotron_h.md 2.6.
#pragma once

#include <span>
#include <vector>

#include "kernels/ops/tree_sum.h"
#include "lib/model/layer_weights.h"
#include "lib/model/step.h"

namespace nemo {

/// The chosen experts of every row: [T, top_k], sorted by rising expert id.
struct RoutedTokens {
  kernels::TensorView<int32_t> expert_ids;
  kernels::TensorView<float> weights;
};

/// Router in float32 on the full hidden x [T, H].
RoutedTokens route_tokens(const Step& step, const LayerConfig& config, const MoeLayer& layer,
                          kernels::TensorView<const float> x);

/// What the experts read: the latent projection of x, or x itself; [T, X], rounded to the job's dtype.
kernels::TensorView<const float> expert_input(const Step& step, const MoeLayer& layer,
                                              kernels::TensorView<const float> x);

/// Rows at the rank that owns their experts. Row i chose experts expert_ids[offsets[i] .. offsets[i + 1]) of
/// this rank's block, rising, with those weights. Borrowed.
struct ExpertRows {
  kernels::TensorView<const float> rows;  ///< [R, X]
  std::span<const int64_t> offsets;       ///< [R + 1]
  std::span<const int32_t> expert_ids;
  std::span<const float> weights;

  std::span<const int32_t> ids_of(int64_t row) const {
    return expert_ids.subspan(static_cast<size_t>(offsets[row]),
                              static_cast<size_t>(offsets[row + 1] - offsets[row]));
  }
};

/// Calls visit(subtree, ids) for every subtree that the rising `expert_ids` touch, in rising order, with the
/// run of ids that lies in it: one call for each root a row gives back. All ids lie in `subtrees`.
template <class Visit>
void for_each_root(std::span<const kernels::ExpertRange> subtrees, std::span<const int32_t> expert_ids,
                   Visit&& visit) {
  size_t end = 0;
  for (const kernels::ExpertRange& subtree : subtrees) {
    const size_t begin = end;
    while (end < expert_ids.size() && expert_ids[end] < subtree.end) ++end;
    if (end > begin) visit(subtree, expert_ids.subspan(begin, end - begin));
  }
}

/// How many roots that is.
int64_t count_roots(std::span<const kernels::ExpertRange> subtrees, std::span<const int32_t> expert_ids);

/// How many roots all rows give back.
int64_t count_roots(std::span<const kernels::ExpertRange> subtrees, const ExpertRows& rows);

/// Runs the block's experts and adds each row's weighted outputs along the tree, up to the roots of
/// `subtrees` (the block's maximal subtrees). roots [count_roots, X]: row after row, subtrees rising.
void expert_partial_sums(const Step& step, const MoeLayer& layer,
                         std::span<const kernels::ExpertRange> subtrees, const ExpertRows& input,
                         kernels::TensorView<float> roots);

/// y = latent_out(routed) (or routed itself) + shared. `shared` [T, H] is the shared expert's output, or
/// empty.
void finish_moe(const Step& step, const MoeLayer& layer, kernels::TensorView<const float> routed,
                kernels::TensorView<const float> shared, kernels::TensorView<float> y);

/// All of it on one rank that holds every expert.
void moe_mixer(const Step& step, const LayerConfig& config, const MoeLayer& layer,
               kernels::TensorView<const float> x, kernels::TensorView<float> y);

}  // namespace nemo
