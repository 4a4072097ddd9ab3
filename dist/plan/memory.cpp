#include "dist/plan/memory.h"

#include <algorithm>

#include "kernels/ops/matmul.h"
#include "lib/weights/tensor_names.h"

namespace nemo::dist {
namespace {

using kernels::DType;
using kernels::PackedMatrix;

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kLogitRows = 64;             // logits are computed and sampled so many rows at a time
constexpr int64_t kBoundaryBuffers = 4;        // two being received, two being sent
constexpr int64_t kStreamBuffers = 3;          // residual stream, its norm, the mixer's output
constexpr int64_t kPairsPerPortion = 2048;     // lib/model/moe.cpp runs so many (row, expert) pairs at a time
constexpr int64_t kPairBookkeepingBytes = 36;  // ids, weight, order and tree term of a pair

/// How the files announce that the tensor is stored; of routed experts, how all of them are.
StoredAs announced_for(const ModelConfig& model, const TensorSpec& spec, int64_t layer_idx) {
  if (model.announced_quantization.empty()) return StoredAs::kPlain;
  return announced_storage(
      model, spec.split == Split::kByExpert ? expert_tensor_name(spec.role, layer_idx, 0) : spec.name);
}

/// Quantized matrices stay as they are stored.
kernels::WeightFormat kept_format(StoredAs stored, DType dtype) {
  return stored == StoredAs::kFp8     ? kernels::WeightFormat::kFp8
         : stored == StoredAs::kNvfp4 ? kernels::WeightFormat::kNvfp4
                                      : kernels::weight_format(dtype);
}

/// How the output head is stored: a tied one is the embedding's matrix once more, packed for products.
TensorSpec head_tensor(const ModelConfig& model) {
  return {.role = TensorRole::kLmHead,
          .name = tensor_name(model.tie_word_embeddings ? TensorRole::kEmbedding : TensorRole::kLmHead, 0),
          .shape = {model.vocab_size, model.hidden_size}};
}

/// Matrices are packed in blocks of output columns; vectors, the convolution and the embedding's rows are
/// not.
int64_t bytes_in_memory(const ModelConfig& model, const TensorSpec& spec, int64_t layer_idx, DType dtype) {
  const bool is_router = spec.role == TensorRole::kRouter;
  if (spec.keep == Keep::kFloat32 && !is_router) return spec.num_elements() * kFloatBytes;
  if (spec.role == TensorRole::kEmbedding) return spec.num_elements() * kernels::dtype_bytes(dtype);
  const size_t rank = spec.shape.size();
  return PackedMatrix::packed_bytes(format_in_memory(model, spec, layer_idx, dtype), spec.shape[rank - 2],
                                    spec.shape[rank - 1]);
}

/// The most subtree roots a block of experts can give back for one row.
int64_t most_roots(const LayerConfig& layer, int64_t num_lanes) {
  int64_t most = 0;
  for (int64_t lane = 0; lane < num_lanes; ++lane) {
    const kernels::ExpertRange block = expert_block(layer.n_routed_experts, num_lanes, lane);
    const auto subtrees =
        static_cast<int64_t>(kernels::maximal_subtrees(block, layer.n_routed_experts).size());
    most = std::max(most, std::min(subtrees, layer.num_experts_per_tok));
  }
  return most;
}

/// What the pieces of lib/model/moe.h and dist/moe hold at once. Received rows are counted for the worst
/// routing, when every lane sends all its rows to this rank: rare, but a rank out of memory ends the job.
Scratch moe_scratch(const ModelConfig& model, const LayerConfig& layer, DType dtype, int64_t num_lanes) {
  const int64_t width = model.expert_io_size(layer) * kFloatBytes;
  const int64_t top_k = layer.num_experts_per_tok;
  const int64_t largest_block = (layer.n_routed_experts + num_lanes - 1) / num_lanes;
  const int64_t chosen_here = std::min(top_k, largest_block);
  const int64_t pairs = num_lanes * chosen_here;  // (row, expert) pairs on this rank for each row of its own

  Scratch scratch;
  scratch.per_row =
      (layer.n_routed_experts + layer.shared_intermediate_size + model.hidden_size) * kFloatBytes +
      top_k * kRoutedExpertBytes + 2 * width;
  scratch.per_row += pairs * (width + kPairBookkeepingBytes);
  scratch.portion_pairs_per_row = pairs;
  scratch.per_portion_pair = width + layer.moe_intermediate_size * kFloatBytes;
  if (num_lanes == 1) return scratch;
  const int64_t message = model.expert_io_size(layer) * kernels::dtype_bytes(dtype) + kDispatchHeaderBytes +
                          chosen_here * kRoutedExpertBytes;
  const int64_t num_blocks_chosen = std::min(top_k, num_lanes);
  const int64_t roots = num_lanes * most_roots(layer, num_lanes);
  scratch.per_row +=
      num_blocks_chosen * message + num_lanes * (message + width);  // sent; received and widened
  scratch.per_row += 2 * roots * width + 2 * top_k * width;  // computed and posted; received and gathered
  return scratch;
}

Scratch layer_scratch(const ModelConfig& model, const LayerConfig& layer, DType dtype, int64_t num_lanes) {
  switch (layer.kind) {
    case LayerKind::kMamba:
      return {.per_row = (model.in_proj_size() + model.conv_dim() + model.mamba_inner_size()) * kFloatBytes};
    case LayerKind::kAttention:
      return {.per_row =
                  2 * (model.num_attention_heads + model.num_key_value_heads) * model.head_dim * kFloatBytes};
    case LayerKind::kMlp:
      return {.per_row = layer.intermediate_size * kFloatBytes};
    case LayerKind::kMoe:
      return moe_scratch(model, layer, dtype, num_lanes);
  }
  return {};
}

void set_weight_bytes(const ModelConfig& model, int64_t layer_idx, DType dtype, LayerBytes& bytes) {
  bytes.shared_weights = bytes.expert_weights = 0;
  for (const TensorSpec& spec : layer_tensors(model, layer_idx))
    (spec.split == Split::kByExpert ? bytes.expert_weights : bytes.shared_weights) +=
        bytes_in_memory(model, spec, layer_idx, dtype);
}

LayerBytes layer_bytes(const ModelConfig& model, int64_t layer_idx, DType dtype, kernels::KvFormat kv_format,
                       int64_t num_lanes) {
  const LayerConfig& layer = model.layers[static_cast<size_t>(layer_idx)];
  LayerBytes bytes;
  set_weight_bytes(model, layer_idx, dtype, bytes);
  if (layer.kind == LayerKind::kMoe) bytes.num_experts = layer.n_routed_experts;
  if (layer.kind == LayerKind::kMamba) {
    const int64_t conv = (model.conv_kernel - 1) * model.conv_dim();
    const int64_t ssm = model.mamba_inner_size() * model.ssm_state_size;
    bytes.state_per_sequence = (conv + ssm) * kFloatBytes;
  }
  if (layer.kind == LayerKind::kAttention)
    bytes.kv_per_token = kernels::KvPages::page_bytes(kv_format, model.num_key_value_heads, model.head_dim) /
                         kernels::kKvPageTokens;
  bytes.scratch = layer_scratch(model, layer, dtype, num_lanes);
  return bytes;
}

int64_t range_sum(const std::vector<int64_t>& before, LayerRange range) {
  return before[static_cast<size_t>(range.end)] - before[static_cast<size_t>(range.begin)];
}

}  // namespace

DType storage_type(const JobConfig& job) {
  return job.dtype == ActivationType::kBFloat16 ? DType::kBFloat16 : DType::kFloat32;
}

kernels::WeightFormat format_in_memory(const ModelConfig& model, const TensorSpec& spec, int64_t layer_idx,
                                       DType dtype) {
  if (spec.role == TensorRole::kRouter) return kernels::WeightFormat::kFloat32;
  return kept_format(announced_for(model, spec, layer_idx), dtype);
}

kernels::WeightFormat head_format_in_memory(const ModelConfig& model, DType dtype) {
  return format_in_memory(model, head_tensor(model), 0, dtype);
}

bool is_same_shape(const LayerConfig& a, const LayerConfig& b) {
  return a.kind == b.kind && a.intermediate_size == b.intermediate_size &&
         a.n_routed_experts == b.n_routed_experts && a.num_experts_per_tok == b.num_experts_per_tok &&
         a.moe_intermediate_size == b.moe_intermediate_size && a.moe_latent_size == b.moe_latent_size &&
         a.shared_intermediate_size == b.shared_intermediate_size;
}

int64_t Scratch::bytes(int64_t num_rows) const {
  return num_rows * per_row + std::min(num_rows * portion_pairs_per_row, kPairsPerPortion) * per_portion_pair;
}

MemoryModel::MemoryModel(const ModelConfig& model, DType dtype, kernels::KvFormat kv_format,
                         int64_t num_lanes)
    : dtype_(dtype),
      kv_format_(kv_format),
      num_lanes_(num_lanes),
      hidden_size_(model.hidden_size),
      vocab_size_(model.vocab_size) {
  add_layers(model);
  for (const TensorSpec& spec : outer_tensors(model))
    (spec.split == Split::kFirstStage ? embedding_bytes_ : head_bytes_) +=
        bytes_in_memory(model, spec, 0, dtype);
  if (model.tie_word_embeddings) head_bytes_ += bytes_in_memory(model, head_tensor(model), 0, dtype);

  for (auto* sums : {&shared_before_, &heaviest_before_, &state_before_, &kv_before_}) sums->push_back(0);
  for (const LayerBytes& layer : layers_) {
    const kernels::ExpertRange block = expert_block(layer.num_experts, num_lanes, 0);
    shared_before_.push_back(shared_before_.back() + layer.shared_weights);
    heaviest_before_.push_back(heaviest_before_.back() + (block.end - block.begin) * layer.expert_weights);
    state_before_.push_back(state_before_.back() + layer.state_per_sequence);
    kv_before_.push_back(kv_before_.back() + layer.kv_per_token);
  }
}

void MemoryModel::add_layers(const ModelConfig& model) {
  std::vector<size_t> seen;
  for (int64_t idx = 0; idx < model.num_layers(); ++idx) {
    const LayerConfig& layer = model.layers[static_cast<size_t>(idx)];
    const auto same = std::find_if(seen.begin(), seen.end(),
                                   [&](size_t i) { return is_same_shape(model.layers[i], layer); });
    const bool is_new = same == seen.end();
    layers_.push_back(is_new ? layer_bytes(model, idx, dtype_, kv_format_, num_lanes_) : layers_[*same]);
    if (is_new) seen.push_back(layers_.size() - 1);
    // Layers of one shape may be quantized differently.
    if (!is_new && !model.announced_quantization.empty())
      set_weight_bytes(model, idx, dtype_, layers_.back());
  }
}

int64_t MemoryModel::weight_bytes(LayerRange stage, int64_t lane) const {
  int64_t bytes = range_sum(shared_before_, stage);
  if (lane == 0) bytes += range_sum(heaviest_before_, stage);
  for (int64_t i = stage.begin; lane != 0 && i < stage.end; ++i) {
    const kernels::ExpertRange block = expert_block(layer(i).num_experts, num_lanes_, lane);
    bytes += (block.end - block.begin) * layer(i).expert_weights;
  }
  if (stage.begin == 0) bytes += embedding_bytes_;
  if (stage.end == num_layers()) bytes += head_bytes_;
  return bytes;
}

int64_t MemoryModel::state_bytes_per_sequence(LayerRange stage) const {
  return range_sum(state_before_, stage);
}

int64_t MemoryModel::kv_bytes_per_token(LayerRange stage) const {
  return range_sum(kv_before_, stage);
}

int64_t MemoryModel::buffer_bytes(LayerRange stage, int64_t max_batch_tokens) const {
  int64_t bytes = 0;
  for (int64_t i = stage.begin; i < stage.end; ++i)
    bytes = std::max(bytes, layer(i).scratch.bytes(max_batch_tokens));
  int64_t per_row = kStreamBuffers * hidden_size_ * kFloatBytes;
  if (!is_whole_model(stage)) per_row += kBoundaryBuffers * hidden_size_ * kernels::dtype_bytes(dtype_);
  bytes += max_batch_tokens * per_row;
  if (stage.end == num_layers()) bytes += std::min(max_batch_tokens, kLogitRows) * vocab_size_ * kFloatBytes;
  return bytes;
}

int64_t MemoryModel::rank_bytes(LayerRange stage, const EngineSizes& sizes) const {
  return weight_bytes(stage, 0) + buffer_bytes(stage, sizes.max_batch_tokens) +
         sizes.max_sequences * state_bytes_per_sequence(stage) +
         sizes.kv_pages * kernels::kKvPageTokens * kv_bytes_per_token(stage);
}

}  // namespace nemo::dist
