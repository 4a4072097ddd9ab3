#include "lib/model/moe.h"

#include <algorithm>
#include <numeric>

#include "kernels/error.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/router.h"
#include "lib/model/mixers.h"

namespace nemo {

using kernels::ExpertRange;
using kernels::TensorView;

namespace {

/// The widest intermediate, [pairs, I], is computed in portions of at most so many (row, expert) pairs: all
/// tokens of all lanes may go to one rank, and the buffer must not grow with that.
constexpr int64_t kPairsPerPortion = 2048;

/// (row, expert) pairs sorted by expert, rows rising within one. Everything indexed by pair is in this order.
struct SortedPairs {
  std::span<int64_t> offsets;  ///< [local experts + 1]
  std::span<int32_t> rows;     ///< [pairs]
  std::span<int32_t> pair_of;  ///< [pairs]: place in this order of the i-th entry of ExpertRows::expert_ids
};

SortedPairs sort_by_expert(Workspace& workspace, ExpertRange block, const ExpertRows& input) {
  const int64_t num_experts = block.end - block.begin;
  const auto num_pairs = static_cast<int64_t>(input.expert_ids.size());
  SortedPairs sorted{workspace.array<int64_t>(num_experts + 1), workspace.array<int32_t>(num_pairs),
                     workspace.array<int32_t>(num_pairs)};
  std::fill(sorted.offsets.begin(), sorted.offsets.end(), 0);
  for (const int32_t expert_id : input.expert_ids) {
    NEMO_CHECK(expert_id >= block.begin && expert_id < block.end, "expert " + std::to_string(expert_id));
    ++sorted.offsets[static_cast<size_t>(expert_id - block.begin + 1)];
  }
  std::partial_sum(sorted.offsets.begin(), sorted.offsets.end(), sorted.offsets.begin());
  auto next = workspace.array<int64_t>(num_experts);
  std::copy_n(sorted.offsets.begin(), num_experts, next.begin());
  for (int64_t row = 0; row < input.rows.rows; ++row) {
    for (int64_t i = input.offsets[row]; i < input.offsets[row + 1]; ++i) {
      const int64_t pair = next[input.expert_ids[i] - block.begin]++;
      sorted.rows[pair] = static_cast<int32_t>(row);
      sorted.pair_of[i] = static_cast<int32_t>(pair);
    }
  }
  return sorted;
}

/// outputs[pair, X] = down(relu(up row)^2) of each pair's expert.
void run_experts(const Step& step, const MoeLayer& layer, TensorView<const float> rows,
                 const SortedPairs& pairs, TensorView<float> outputs) {
  auto clipped = step.workspace.array<int64_t>(static_cast<int64_t>(pairs.offsets.size()));
  for (int64_t begin = 0; begin < outputs.rows; begin += kPairsPerPortion) {
    Workspace::Frame frame(step.workspace);
    const int64_t count = std::min(kPairsPerPortion, outputs.rows - begin);
    for (size_t e = 0; e < clipped.size(); ++e)
      clipped[e] = std::clamp<int64_t>(pairs.offsets[e] - begin, 0, count);
    auto gathered = step.workspace.tensor<float>(count, rows.cols);
    step.context.threads.run(
        count, [&](int64_t i) { std::copy_n(rows.row(pairs.rows[begin + i]), rows.cols, gathered.row(i)); });
    auto hidden = step.workspace.tensor<float>(count, layer.up.front().n());
    kernels::matmul_grouped(step.context, gathered, clipped, layer.up, hidden);
    kernels::relu2(step.context, hidden);
    kernels::matmul_grouped(step.context, hidden, clipped, layer.down, outputs.slice_rows(begin, count));
  }
}

}  // namespace

RoutedTokens route_tokens(const Step& step, const LayerConfig& config, const MoeLayer& layer,
                          TensorView<const float> x) {
  const kernels::RouterShape shape{.num_experts = config.n_routed_experts,
                                   .top_k = config.num_experts_per_tok,
                                   .num_groups = step.config.n_group,
                                   .num_kept_groups = step.config.topk_group,
                                   .normalize = step.config.norm_topk_prob,
                                   .scaling_factor = step.config.routed_scaling_factor};
  RoutedTokens routed{step.workspace.tensor<int32_t>(x.rows, shape.top_k),
                      step.workspace.tensor<float>(x.rows, shape.top_k)};
  Workspace::Frame frame(step.workspace);
  auto logits = step.workspace.tensor<float>(x.rows, shape.num_experts);
  kernels::matmul(step.context, x, layer.router, logits);
  kernels::route(step.context, logits, layer.correction_bias, shape, routed.expert_ids, routed.weights);
  return routed;
}

TensorView<const float> expert_input(const Step& step, const MoeLayer& layer, TensorView<const float> x) {
  if (!layer.latent_in) return x;
  auto latent = step.workspace.tensor<float>(x.rows, layer.latent_in->weight.n());
  (*layer.latent_in)(step.context, x, latent);
  kernels::round_rows(step.context, latent);
  return latent;
}

int64_t count_roots(std::span<const ExpertRange> subtrees, std::span<const int32_t> expert_ids) {
  int64_t roots = 0;
  for_each_root(subtrees, expert_ids, [&](const ExpertRange&, std::span<const int32_t>) { ++roots; });
  return roots;
}

int64_t count_roots(std::span<const ExpertRange> subtrees, const ExpertRows& rows) {
  int64_t roots = 0;
  for (int64_t row = 0; row < rows.rows.rows; ++row) roots += count_roots(subtrees, rows.ids_of(row));
  return roots;
}

void expert_partial_sums(const Step& step, const MoeLayer& layer, std::span<const ExpertRange> subtrees,
                         const ExpertRows& input, TensorView<float> roots) {
  const auto num_pairs = static_cast<int64_t>(input.expert_ids.size());
  if (num_pairs == 0) return;

  Workspace::Frame frame(step.workspace);
  const SortedPairs pairs = sort_by_expert(step.workspace, layer.experts, input);
  auto outputs = step.workspace.tensor<float>(num_pairs, input.rows.cols);
  run_experts(step, layer, input.rows, pairs, outputs);

  auto terms = step.workspace.array<kernels::TreeTerm>(num_pairs);
  auto root_offsets = step.workspace.array<int64_t>(roots.rows + 1);
  for (int64_t i = 0; i < num_pairs; ++i)
    terms[i] = {.position = input.expert_ids[i], .input_row = pairs.pair_of[i], .weight = input.weights[i]};
  int64_t root = 0;
  for (int64_t row = 0; row < input.rows.rows; ++row) {
    for_each_root(subtrees, input.ids_of(row), [&](const ExpertRange&, std::span<const int32_t> ids) {
      root_offsets[root++] = ids.data() - input.expert_ids.data();
    });
  }
  NEMO_CHECK(root == roots.rows, "as many roots as the rows give back");
  root_offsets[root] = num_pairs;
  kernels::tree_sum(step.context, outputs, terms, root_offsets, roots);
}

void finish_moe(const Step& step, const MoeLayer& layer, TensorView<const float> routed,
                TensorView<const float> shared, TensorView<float> y) {
  if (layer.latent_out) {
    (*layer.latent_out)(step.context, routed, y);
  } else {
    for (int64_t row = 0; row < y.rows; ++row) std::copy_n(routed.row(row), y.cols, y.row(row));
  }
  if (shared.data != nullptr) kernels::add(step.context, shared, y);
}

void moe_mixer(const Step& step, const LayerConfig& config, const MoeLayer& layer, TensorView<const float> x,
               TensorView<float> y) {
  Workspace::Frame frame(step.workspace);
  const RoutedTokens routed = route_tokens(step, config, layer, x);
  const int64_t top_k = config.num_experts_per_tok;
  auto offsets = step.workspace.array<int64_t>(x.rows + 1);
  for (int64_t row = 0; row <= x.rows; ++row) offsets[row] = row * top_k;
  const auto num_pairs = static_cast<size_t>(x.rows * top_k);
  const ExpertRange whole{0, config.n_routed_experts};
  const std::span<const ExpertRange> subtrees(&whole, 1);
  const ExpertRows rows{.rows = expert_input(step, layer, x),
                        .offsets = offsets,
                        .expert_ids = {routed.expert_ids.data, num_pairs},
                        .weights = {routed.weights.data, num_pairs}};
  auto sums = step.workspace.tensor<float>(x.rows, rows.rows.cols);
  expert_partial_sums(step, layer, subtrees, rows, sums);
  TensorView<float> shared;
  if (layer.shared) {
    shared = step.workspace.tensor<float>(x.rows, x.cols);
    mlp_mixer(step, *layer.shared, x, shared);
  }
  finish_moe(step, layer, sums, shared, y);
}

}  // namespace nemo
