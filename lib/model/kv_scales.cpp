#include "lib/model/kv_scales.h"

namespace nemo {

namespace {

bool is_attention(const ModelConfig& config, int64_t layer_idx) {
  return config.layers[static_cast<size_t>(layer_idx)].kind == LayerKind::kAttention;
}

}  // namespace

void load_kv_scales(const Checkpoint& checkpoint, const ModelConfig& config, StateCache& state) {
  const StateCacheShape& shape = state.shape();
  if (shape.kv_format != kernels::KvFormat::kFp8) return;
  for (int64_t i = shape.layer_begin; i < shape.layer_end; ++i) {
    if (!is_attention(config, i)) continue;
    state.set_kv_scales(i,
                        {.key = checkpoint.kv_scale(tensor_name(TensorRole::kKScale, i)).value_or(1.0f),
                         .value = checkpoint.kv_scale(tensor_name(TensorRole::kVScale, i)).value_or(1.0f)});
  }
}

KvScaleCount count_kv_scales(const Checkpoint& checkpoint, const ModelConfig& config) {
  KvScaleCount count;
  for (int64_t i = 0; i < config.num_layers(); ++i) {
    if (!is_attention(config, i)) continue;
    const bool has_key = checkpoint.kv_scale(tensor_name(TensorRole::kKScale, i)).has_value();
    const bool has_value = checkpoint.kv_scale(tensor_name(TensorRole::kVScale, i)).has_value();
    ++count.layers;
    count.with_scales += has_key && has_value;
  }
  return count;
}

}  // namespace nemo
