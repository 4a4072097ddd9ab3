// Writes random tensors as sharded safetensors, piece by piece. Internal to lib/weights/synthetic.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "kernels/thread_pool.h"
#include "lib/weights/synthetic/random_tensor.h"

namespace nemo {

/// Shards are closed before they grow larger, as the published ones are; a larger tensor has one of its own.
inline constexpr uint64_t kMaxShardBytes = uint64_t{5} << 30;

/// Writes model-0000i-of-0000n.safetensors and, last, model.safetensors.index.json into `folder`, so that a
/// folder left half-written is not taken for a checkpoint. Holds 64 MiB. Throws Error naming the file.
void write_shards(kernels::ThreadPool& threads, const std::string& folder,
                  std::span<const RandomTensor> tensors, uint64_t seed,
                  uint64_t max_shard_bytes = kMaxShardBytes);

}  // namespace nemo
