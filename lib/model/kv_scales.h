// The scales of an FP8 KV cache, from the checkpoint.
#pragma once

#include "lib/state/state_cache.h"
#include "lib/weights/checkpoint.h"

namespace nemo {

/// Gives the attention layers of an FP8 cache the checkpoint's scales, 1 where it has none; does nothing for
/// other formats. Throws Error naming file and tensor for a scale that is none.
void load_kv_scales(const Checkpoint& checkpoint, const ModelConfig& config, StateCache& state);

/// How many of the model's attention layers have scales of their own in the checkpoint, for keys and values.
struct KvScaleCount {
  int64_t layers = 0;
  int64_t with_scales = 0;
};
/// Throws as load_kv_scales.
KvScaleCount count_kv_scales(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace nemo
