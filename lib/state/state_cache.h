// StateCache: all decode state of a contiguous run of layers: convolution columns and SSM states by slot, KV
// pages by page id. It obeys: which slot and which page belongs to whom is decided by the lane's Scheduler,
// alike on all stages.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "kernels/large_memory.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/mamba2.h"
#include "lib/config/job_config.h"
#include "lib/config/model_config.h"

namespace nemo {

/// How a job's keys and values are stored.
kernels::KvFormat kv_format(const JobConfig& job);
/// "float32", "bfloat16", "fp8".
std::string_view kv_format_name(kernels::KvFormat format);

struct StateCacheShape {
  int64_t layer_begin = 0;
  int64_t layer_end = 0;
  int64_t num_slots = 0;
  int64_t num_pages = 0;
  kernels::KvFormat kv_format = kernels::KvFormat::kFloat32;
};

class StateCache {
 public:
  /// Allocates everything at once, untouched: a slot's memory becomes real when a sequence first uses it.
  StateCache(const ModelConfig& config, StateCacheShape shape);

  /// Makes `slot` ready for a segment at `position`: position 0 forgets the slot's pages; `new_pages` are
  /// appended. Throws Error for a slot or page out of range.
  void prepare(int32_t slot, int64_t position, std::span<const int32_t> new_pages);

  /// Makes `slot` a copy of `source`, which holds `num_tokens` tokens: states and the contents of pages.
  /// `pages` are the slot's own. Throws Error for a slot or page out of range, and for too few pages.
  void fork(int32_t source, int32_t slot, int64_t num_tokens, std::span<const int32_t> pages);

  /// Scales of an attention layer's FP8 pages; 1 until they are set.
  void set_kv_scales(int64_t layer_idx, kernels::KvScales scales);

  kernels::PageTable page_table(int32_t slot) const { return page_tables_[static_cast<size_t>(slot)]; }

  /// State of a Mamba layer, KV pages of an attention layer; `layer_idx` is the model's.
  kernels::MambaState mamba(int64_t layer_idx);
  kernels::KvPages kv(int64_t layer_idx);

  const StateCacheShape& shape() const { return shape_; }

 private:
  struct LayerState {
    kernels::LargeMemory conv, ssm;  ///< floats
    kernels::LargeMemory keys, values;
    kernels::KvScales kv_scales;
  };
  LayerState& layer(int64_t layer_idx);
  void check_slot(int32_t slot) const;
  void copy_pages(kernels::LargeMemory& memory, kernels::PageTable from, kernels::PageTable to) const;

  StateCacheShape shape_;
  int64_t num_kv_heads_, head_dim_;
  size_t conv_size_, ssm_size_;  ///< elements of a slot
  std::vector<LayerState> layers_;
  std::vector<std::vector<int32_t>> page_tables_;  ///< by slot
};

}  // namespace nemo
