#include "lib/model/layer_weights.h"

#include <algorithm>

#include "lib/weights/matrix_loader.h"
#include "lib/weights/tensor_names.h"

namespace nemo {

namespace {

using kernels::PackedMatrix;

/// The tensors of one layer by role, read as they are asked for. A role that the layer's table lacks (a bias
/// that is switched off) reads as empty.
class LayerReader {
 public:
  LayerReader(const Checkpoint& checkpoint, const ModelConfig& config, int64_t layer_idx,
              kernels::DType dtype)
      : checkpoint_(checkpoint),
        specs_(layer_tensors(config, layer_idx)),
        layer_idx_(layer_idx),
        dtype_(dtype) {}

  std::vector<float> vector(TensorRole role) const {
    const TensorSpec* spec = find(role);
    return spec ? checkpoint_.read_f32(spec->name) : std::vector<float>{};
  }

  Linear linear(TensorRole weight, TensorRole bias) const { return {matrix(weight, dtype_), vector(bias)}; }
  bool has(TensorRole role) const { return find(role) != nullptr; }

  PackedMatrix matrix(TensorRole role, kernels::DType dtype) const;
  std::vector<PackedMatrix> experts(TensorRole role, kernels::ExpertRange range) const;

 private:
  const TensorSpec* find(TensorRole role) const {
    const auto it =
        std::find_if(specs_.begin(), specs_.end(), [&](const TensorSpec& spec) { return spec.role == role; });
    return it == specs_.end() ? nullptr : &*it;
  }

  const Checkpoint& checkpoint_;
  std::vector<TensorSpec> specs_;
  int64_t layer_idx_;
  kernels::DType dtype_;
};

PackedMatrix LayerReader::matrix(TensorRole role, kernels::DType dtype) const {
  return load_matrix(checkpoint_, tensor_name(role, layer_idx_), dtype);
}

std::vector<PackedMatrix> LayerReader::experts(TensorRole role, kernels::ExpertRange range) const {
  std::vector<std::string> names;
  for (int64_t expert_id = range.begin; expert_id < range.end; ++expert_id)
    names.push_back(expert_tensor_name(role, layer_idx_, expert_id));
  return load_matrices(checkpoint_, names, dtype_);
}

Mamba2Layer load_mamba2(const LayerReader& read) {
  using enum TensorRole;
  return {.in_proj = read.linear(kInProj, kInProjBias),
          .conv_weight = read.vector(kConvWeight),
          .conv_bias = read.vector(kConvBias),
          .a_log = read.vector(kALog),
          .d = read.vector(kD),
          .dt_bias = read.vector(kDtBias),
          .norm = read.vector(kGatedNorm),
          .out_proj = read.linear(kOutProj, kOutProjBias)};
}

AttentionLayer load_attention(const LayerReader& read) {
  using enum TensorRole;
  return {.q_proj = read.linear(kQProj, kQBias),
          .k_proj = read.linear(kKProj, kKBias),
          .v_proj = read.linear(kVProj, kVBias),
          .o_proj = read.linear(kOProj, kOBias)};
}

MoeLayer load_moe(const LayerReader& read, kernels::ExpertRange experts) {
  using enum TensorRole;
  MoeLayer layer;
  layer.router = read.matrix(kRouter, kernels::DType::kFloat32);
  layer.correction_bias = read.vector(kRouterBias);
  if (read.has(kSharedUp))
    layer.shared = MlpLayer{read.linear(kSharedUp, kSharedUpBias), read.linear(kSharedDown, kSharedDownBias)};
  if (read.has(kLatentIn)) {
    layer.latent_in = read.linear(kLatentIn, kLatentInBias);
    layer.latent_out = read.linear(kLatentOut, kLatentOutBias);
  }
  layer.experts = experts;
  layer.up = read.experts(kExpertUp, experts);
  layer.down = read.experts(kExpertDown, experts);
  return layer;
}

}  // namespace

Layer load_layer(const Checkpoint& checkpoint, const ModelConfig& config, int64_t layer_idx,
                 kernels::ExpertRange experts, kernels::DType dtype) {
  const LayerReader read(checkpoint, config, layer_idx, dtype);
  Layer layer;
  layer.norm = read.vector(TensorRole::kNorm);
  switch (config.layers[static_cast<size_t>(layer_idx)].kind) {
    case LayerKind::kMamba:
      layer.mixer = load_mamba2(read);
      break;
    case LayerKind::kAttention:
      layer.mixer = load_attention(read);
      break;
    case LayerKind::kMlp:
      layer.mixer = MlpLayer{read.linear(TensorRole::kUpProj, TensorRole::kUpBias),
                             read.linear(TensorRole::kDownProj, TensorRole::kDownBias)};
      break;
    case LayerKind::kMoe:
      layer.mixer = load_moe(read, experts);
      break;
  }
  return layer;
}

kernels::EmbeddingTable load_embedding(const Checkpoint& checkpoint, const ModelConfig& config,
                                       kernels::DType dtype) {
  const std::string name = tensor_name(TensorRole::kEmbedding, 0);
  kernels::EmbeddingTable table;
  table.dtype = dtype;
  table.vocab_size = config.vocab_size;
  table.hidden_size = config.hidden_size;
  const auto num_elements = static_cast<size_t>(config.vocab_size * config.hidden_size);
  if (dtype == kernels::DType::kBFloat16) {
    table.rows = kernels::LargeMemory(config.vocab_size * config.hidden_size * 2);
    checkpoint.read_rows_bf16(name, 0, config.vocab_size,
                              {reinterpret_cast<uint16_t*>(table.rows.data()), num_elements});
  } else {
    table.rows = kernels::LargeMemory(config.vocab_size * config.hidden_size * 4);
    checkpoint.read_rows_f32(name, 0, config.vocab_size,
                             {reinterpret_cast<float*>(table.rows.data()), num_elements});
  }
  return table;
}

LmHead load_lm_head(const Checkpoint& checkpoint, const ModelConfig& config, kernels::DType dtype) {
  LmHead head;
  head.norm = checkpoint.read_f32(tensor_name(TensorRole::kFinalNorm, 0));
  const TensorRole role = config.tie_word_embeddings ? TensorRole::kEmbedding : TensorRole::kLmHead;
  head.weight = load_matrix(checkpoint, tensor_name(role, 0), dtype);
  return head;
}

}  // namespace nemo
