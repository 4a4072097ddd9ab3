#include "lib/config/parameter_count.h"

#include "lib/weights/tensor_names.h"

namespace nemo {
namespace {

int64_t sum_of(const std::vector<TensorSpec>& specs) {
  int64_t sum = 0;
  for (const TensorSpec& spec : specs) sum += spec.num_elements();
  return sum;
}

}  // namespace

LayerParameterCount layer_parameters(const ModelConfig& config, const LayerConfig& layer) {
  LayerParameterCount count;
  for (const TensorSpec& spec : layer_tensors(config, layer, "")) {
    count.total += spec.num_elements();
    if (spec.split == Split::kByExpert) count.routed += spec.num_elements();
  }
  count.active = count.total;
  if (layer.kind == LayerKind::kMoe) {
    count.active -=
        count.routed / layer.n_routed_experts * (layer.n_routed_experts - layer.num_experts_per_tok);
  }
  return count;
}

int64_t embedding_parameters(const ModelConfig& config) {
  return config.vocab_size * config.hidden_size;
}

int64_t total_parameters(const ModelConfig& config) {
  int64_t total = sum_of(outer_tensors(config));
  for (const LayerConfig& layer : config.layers) total += layer_parameters(config, layer).total;
  return total;
}

int64_t mtp_parameters(const ModelConfig& config) {
  return sum_of(mtp_tensors(config));
}

int64_t active_parameters(const ModelConfig& config) {
  // Tied or not, the head's matrix is multiplied for every token; the embedding is one row's copy.
  int64_t active = embedding_parameters(config) + config.hidden_size;
  for (const LayerConfig& layer : config.layers) active += layer_parameters(config, layer).active;
  return active;
}

int64_t active_parameters_with_embedding(const ModelConfig& config) {
  return active_parameters(config) + (config.tie_word_embeddings ? 0 : embedding_parameters(config));
}

}  // namespace nemo
