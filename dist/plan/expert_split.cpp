// Who holds which experts, and what a token therefore puts on the wire.
#include <algorithm>

#include "dist/plan/memory.h"
#include "dist/plan/plan.h"
#include "kernels/error.h"

namespace nemo::dist {
namespace {

/// Probability that a token's `top_k` distinct experts out of `num_experts`, all sets equally likely, include
/// at least one of `block_size` given ones: 1 - C(n - b, k) / C(n, k).
double hit_probability(int64_t num_experts, int64_t top_k, int64_t block_size) {
  double miss = 1;
  for (int64_t i = 0; i < top_k; ++i)
    miss *= static_cast<double>(std::max<int64_t>(0, num_experts - block_size - i)) /
            static_cast<double>(num_experts - i);
  return 1 - miss;
}

/// One MoE layer's share of WireBytes.
WireBytes layer_wire_bytes(const ModelConfig& model, const LayerConfig& layer, int64_t row_bytes,
                           int64_t num_lanes) {
  const int64_t num_experts = layer.n_routed_experts;
  const double top_k = static_cast<double>(layer.num_experts_per_tok);
  // A block is another rank's for all tokens but those of its own lane.
  const double is_other = static_cast<double>(num_lanes - 1) / static_cast<double>(num_lanes);
  double ranks = 0, roots = 0;
  for (int64_t lane = 0; lane < num_lanes; ++lane) {
    const kernels::ExpertRange block = expert_block(num_experts, num_lanes, lane);
    ranks += is_other * hit_probability(num_experts, layer.num_experts_per_tok, block.end - block.begin);
    for (const kernels::ExpertRange& subtree : kernels::maximal_subtrees(block, num_experts))
      roots +=
          is_other * hit_probability(num_experts, layer.num_experts_per_tok, subtree.end - subtree.begin);
  }
  WireBytes bytes;
  bytes.ranks_per_moe_layer = ranks;
  bytes.dispatch_per_moe_layer =
      ranks * static_cast<double>(row_bytes + kDispatchHeaderBytes) + is_other * top_k * kRoutedExpertBytes;
  bytes.combine_per_moe_layer = roots * static_cast<double>(model.expert_io_size(layer)) * sizeof(float);
  return bytes;
}

}  // namespace

kernels::ExpertRange expert_block(int64_t num_experts, int64_t num_lanes, int64_t lane) {
  NEMO_CHECK(num_lanes >= 1 && lane >= 0 && lane < num_lanes, "lane " + std::to_string(lane));
  const int64_t size = num_experts / num_lanes;
  const int64_t num_larger = num_experts % num_lanes;
  const auto begin_of = [&](int64_t i) { return i * size + std::min(i, num_larger); };
  return {begin_of(lane), begin_of(lane + 1)};
}

WireBytes wire_bytes_per_token(const ModelConfig& model, const JobConfig& job, const Layout& layout) {
  const int64_t element = kernels::dtype_bytes(storage_type(job));
  WireBytes mean, layer_bytes;
  int64_t num_moe_layers = 0;
  const LayerConfig* previous = nullptr;
  for (const LayerConfig& layer : model.layers) {
    if (layer.kind != LayerKind::kMoe) continue;
    if (previous == nullptr || !is_same_shape(*previous, layer))
      layer_bytes = layer_wire_bytes(model, layer, model.expert_io_size(layer) * element, layout.expert);
    previous = &layer;
    mean.ranks_per_moe_layer += layer_bytes.ranks_per_moe_layer;
    mean.dispatch_per_moe_layer += layer_bytes.dispatch_per_moe_layer;
    mean.combine_per_moe_layer += layer_bytes.combine_per_moe_layer;
    ++num_moe_layers;
  }
  if (num_moe_layers > 0) {
    mean.ranks_per_moe_layer /= static_cast<double>(num_moe_layers);
    mean.dispatch_per_moe_layer /= static_cast<double>(num_moe_layers);
    mean.combine_per_moe_layer /= static_cast<double>(num_moe_layers);
  }
  constexpr int64_t kTokenIdBytes = 4;
  if (layout.pipeline > 1) mean.per_stage_boundary = model.hidden_size * element + kTokenIdBytes;
  return mean;
}

}  // namespace nemo::dist
