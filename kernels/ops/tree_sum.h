// The sum of weighted expert outputs along a fixed binary tree over the expert index: the reason why results
// do not depend on how experts are split over ranks. A node's value is left + right in fp32; an absent side
// is skipped, not added as zero. A rank whose block of experts is an aligned power of two holds a whole
// subtree and sends its root; any other block sends the roots of its maximal subtrees. The receiver adds
// roots with the same function.
#pragma once

#include <span>
#include <vector>

#include "kernels/context.h"

namespace nemo::kernels {

/// One leaf or subtree root: the value is weight * inputs[input_row, :] (weight 1 for a root).
struct TreeTerm {
  int32_t position = 0;  ///< expert index of the leaf, or first expert index of the subtree
  int32_t input_row = 0;
  float weight = 1.0f;
};

/// outputs[i, :] = tree sum of terms [offsets[i], offsets[i + 1]), which have strictly rising positions; no
/// terms = 0. The tree: terms whose positions first differ in bit b meet in a node of level b.
void tree_sum(const Context& context, TensorView<const float> inputs, std::span<const TreeTerm> terms,
              std::span<const int64_t> offsets, TensorView<float> outputs);

/// [begin, end) of experts.
struct ExpertRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const ExpertRange&) const = default;
};

/// The maximal aligned power-of-two ranges that make up `block`, in rising order: {block} itself if it is
/// one. The tree's leaves are [0, 2^ceil(log2(num_experts))): a block that reaches num_experts counts as
/// reaching that end (its last range is given as ending at num_experts).
std::vector<ExpertRange> maximal_subtrees(ExpertRange block, int64_t num_experts);

}  // namespace nemo::kernels
