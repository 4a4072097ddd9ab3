// KV pages as ops find them. Internal to kernels/cpu.
#pragma once

#include "kernels/ops/attention.h"

namespace nemo::kernels {

/// Throws Error unless `rows` rows hold the segments and the tables the pages that these need.
void check_kv_pages(std::span<const Segment> segments, std::span<const PageTable> page_tables, int64_t rows,
                    const KvPages& pages);

/// First element of one KV head's part of a page.
inline int64_t kv_head_begin(const KvPages& pages, int64_t page, int64_t kv_head) {
  return (page * pages.num_kv_heads + kv_head) * kKvPageTokens * KvPages::stored_dim(pages.head_dim);
}

}  // namespace nemo::kernels
