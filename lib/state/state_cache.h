// StateCache: all decode state of a contiguous run of layers: convolution columns and SSM states by slot, KV
// pages by page id. It obeys: which slot and which page belongs to whom is decided by the lane's Scheduler,
// alike on all stages.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/ops/attention.h"
#include "kernels/ops/mamba2.h"
#include "lib/config/model_config.h"

namespace nemo {

struct StateCacheShape {
  int64_t layer_begin = 0;
  int64_t layer_end = 0;
  int64_t num_slots = 0;
  int64_t num_pages = 0;
  kernels::DType dtype = kernels::DType::kFloat32;  ///< of keys and values
};

class StateCache {
 public:
  /// Allocates everything at once, untouched: a slot's memory becomes real when a sequence first uses it.
  StateCache(const ModelConfig& config, StateCacheShape shape);

  /// Makes `slot` ready for a segment at `position`: position 0 forgets the slot's pages; `new_pages` are
  /// appended. Throws Error for a slot or page out of range.
  void prepare(int32_t slot, int64_t position, std::span<const int32_t> new_pages);

  kernels::PageTable page_table(int32_t slot) const { return page_tables_[static_cast<size_t>(slot)]; }

  /// State of a Mamba layer, KV pages of an attention layer; `layer_idx` is the model's.
  kernels::MambaState mamba(int64_t layer_idx) const;
  kernels::KvPages kv(int64_t layer_idx) const;

  int64_t num_slots() const { return shape_.num_slots; }

 private:
  struct LayerState {
    std::unique_ptr<float[]> conv, ssm;
    std::unique_ptr<std::byte[]> keys, values;
  };
  const LayerState& layer(int64_t layer_idx) const;

  StateCacheShape shape_;
  int64_t num_kv_heads_, head_dim_;
  std::vector<LayerState> layers_;
  std::vector<std::vector<int32_t>> page_tables_;  ///< by slot
};

}  // namespace nemo
