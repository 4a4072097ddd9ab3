#include "lib/state/state_cache.h"

#include <algorithm>

#include "kernels/error.h"

namespace nemo {
namespace {

float* floats(kernels::LargeMemory& memory) {
  return reinterpret_cast<float*>(memory.data());
}

}  // namespace

kernels::KvFormat kv_format(const JobConfig& job) {
  if (job.engine.kv_cache_dtype == KvCacheType::kFp8) return kernels::KvFormat::kFp8;
  return job.dtype == ActivationType::kBFloat16 ? kernels::KvFormat::kBFloat16 : kernels::KvFormat::kFloat32;
}

std::string_view kv_format_name(kernels::KvFormat format) {
  return format == kernels::KvFormat::kFp8        ? "fp8"
         : format == kernels::KvFormat::kBFloat16 ? "bfloat16"
                                                  : "float32";
}

StateCache::StateCache(const ModelConfig& config, StateCacheShape shape)
    : shape_(shape),
      num_kv_heads_(config.num_key_value_heads),
      head_dim_(config.head_dim),
      conv_size_(static_cast<size_t>((config.conv_kernel - 1) * config.conv_dim())),
      ssm_size_(static_cast<size_t>(config.mamba_inner_size() * config.ssm_state_size)),
      layers_(static_cast<size_t>(shape.layer_end - shape.layer_begin)),
      page_tables_(static_cast<size_t>(shape.num_slots)) {
  const auto float_bytes = [&](size_t of_slot) {
    return shape.num_slots * static_cast<int64_t>(of_slot * sizeof(float));
  };
  const int64_t kv_bytes =
      shape.num_pages * kernels::KvPages::page_bytes(shape.kv_format, num_kv_heads_, head_dim_) / 2;
  for (int64_t i = shape.layer_begin; i < shape.layer_end; ++i) {
    LayerState& state = layers_[static_cast<size_t>(i - shape.layer_begin)];
    const LayerKind kind = config.layers[static_cast<size_t>(i)].kind;
    if (kind == LayerKind::kMamba) {
      state.conv = kernels::LargeMemory(float_bytes(conv_size_));
      state.ssm = kernels::LargeMemory(float_bytes(ssm_size_));
    } else if (kind == LayerKind::kAttention) {
      state.keys = kernels::LargeMemory(kv_bytes);
      state.values = kernels::LargeMemory(kv_bytes);
    }
  }
}

void StateCache::check_slot(int32_t slot) const {
  NEMO_CHECK(slot >= 0 && slot < shape_.num_slots, "slot " + std::to_string(slot));
}

void StateCache::prepare(int32_t slot, int64_t position, std::span<const int32_t> new_pages) {
  check_slot(slot);
  std::vector<int32_t>& table = page_tables_[static_cast<size_t>(slot)];
  if (position == 0) table.clear();
  for (const int32_t page : new_pages) {
    NEMO_CHECK(page >= 0 && page < shape_.num_pages, "KV page " + std::to_string(page));
    table.push_back(page);
  }
}

void StateCache::fork(int32_t source, int32_t slot, int64_t num_tokens, std::span<const int32_t> pages) {
  check_slot(source);
  prepare(slot, 0, pages);
  const auto num_pages = static_cast<size_t>(kernels::kv_pages_of(num_tokens));
  for (LayerState& state : layers_) {
    if (state.ssm.data() != nullptr) {
      const auto from = static_cast<size_t>(source), to = static_cast<size_t>(slot);
      std::copy_n(floats(state.conv) + from * conv_size_, conv_size_, floats(state.conv) + to * conv_size_);
      std::copy_n(floats(state.ssm) + from * ssm_size_, ssm_size_, floats(state.ssm) + to * ssm_size_);
    } else if (state.keys.data() != nullptr) {
      const kernels::PageTable from = page_table(source), to = page_table(slot);
      NEMO_CHECK(std::min(from.size(), to.size()) >= num_pages, "fewer KV pages than tokens");
      copy_pages(state.keys, from.first(num_pages), to.first(num_pages));
      copy_pages(state.values, from.first(num_pages), to.first(num_pages));
    }
  }
}

void StateCache::copy_pages(kernels::LargeMemory& memory, kernels::PageTable from,
                            kernels::PageTable to) const {
  std::byte* pages = memory.data();
  const auto bytes =
      static_cast<size_t>(kernels::KvPages::page_bytes(shape_.kv_format, num_kv_heads_, head_dim_) / 2);
  for (size_t i = 0; i < from.size(); ++i)
    std::copy_n(pages + static_cast<size_t>(from[i]) * bytes, bytes,
                pages + static_cast<size_t>(to[i]) * bytes);
}

void StateCache::set_kv_scales(int64_t layer_idx, kernels::KvScales scales) {
  LayerState& state = layer(layer_idx);
  NEMO_CHECK(state.keys.data() != nullptr, "an attention layer");
  state.kv_scales = scales;
}

StateCache::LayerState& StateCache::layer(int64_t layer_idx) {
  NEMO_CHECK(layer_idx >= shape_.layer_begin && layer_idx < shape_.layer_end,
             "layer " + std::to_string(layer_idx));
  return layers_[static_cast<size_t>(layer_idx - shape_.layer_begin)];
}

kernels::MambaState StateCache::mamba(int64_t layer_idx) {
  LayerState& state = layer(layer_idx);
  return {.conv = floats(state.conv), .ssm = floats(state.ssm), .num_slots = shape_.num_slots};
}

kernels::KvPages StateCache::kv(int64_t layer_idx) {
  LayerState& state = layer(layer_idx);
  return {.format = shape_.kv_format,
          .keys = state.keys.data(),
          .values = state.values.data(),
          .num_pages = shape_.num_pages,
          .num_kv_heads = num_kv_heads_,
          .head_dim = head_dim_,
          .scales = state.kv_scales};
}

}  // namespace nemo
