#include "kernels/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// First element of (page, kv head, token) in keys or values.
int64_t page_index(const KvPages& pages, int64_t page, int64_t kv_head, int64_t token) {
  return ((page * pages.num_kv_heads + kv_head) * kKvPageTokens + token) * pages.head_dim;
}

float load(const KvPages& pages, const std::byte* base, int64_t at) {
  return pages.dtype == DType::kFloat32 ? reinterpret_cast<const float*>(base)[at]
                                        : reinterpret_cast<const bf16*>(base)[at].to_float();
}

void store(const KvPages& pages, std::byte* base, int64_t at, float value) {
  if (pages.dtype == DType::kFloat32) {
    reinterpret_cast<float*>(base)[at] = value;
  } else {
    reinterpret_cast<bf16*>(base)[at] = bf16::from_float(value);
  }
}

}  // namespace

void append_kv(const Context& context, std::span<const Segment> segments,
               std::span<const PageTable> page_tables, TensorView<const float> k, TensorView<const float> v,
               const KvPages& pages) {
  NEMO_CHECK(segments.size() == page_tables.size(), "one page table per segment");
  NEMO_CHECK(k.cols == pages.num_kv_heads * pages.head_dim && v.cols == k.cols, "shapes of k and v");
  context.threads.run(static_cast<int64_t>(segments.size()), [&](int64_t s) {
    const Segment& segment = segments[static_cast<size_t>(s)];
    for (int64_t t = 0; t < segment.row_count; ++t) {
      const int64_t position = segment.position + t;
      const int32_t page = page_tables[static_cast<size_t>(s)][static_cast<size_t>(position / kKvPageTokens)];
      for (int64_t h = 0; h < pages.num_kv_heads; ++h) {
        const int64_t at = page_index(pages, page, h, position % kKvPageTokens);
        for (int64_t d = 0; d < pages.head_dim; ++d) {
          store(pages, pages.keys, at + d, k.row(segment.row_begin + t)[h * pages.head_dim + d]);
          store(pages, pages.values, at + d, v.row(segment.row_begin + t)[h * pages.head_dim + d]);
        }
      }
    }
  });
}

void paged_attention(const Context& context, std::span<const Segment> segments,
                     std::span<const PageTable> page_tables, TensorView<const float> q, int64_t num_heads,
                     const KvPages& pages, TensorView<float> out) {
  NEMO_CHECK(segments.size() == page_tables.size(), "one page table per segment");
  NEMO_CHECK(pages.num_kv_heads > 0 && num_heads % pages.num_kv_heads == 0, "heads");
  NEMO_CHECK(q.cols == num_heads * pages.head_dim && out.cols == q.cols && out.rows == q.rows,
             "shapes of q and out");
  const int64_t dim = pages.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  for (size_t s = 0; s < segments.size(); ++s) {
    const Segment& segment = segments[s];
    context.threads.run(segment.row_count * num_heads, [&](int64_t task) {
      const int64_t t = task / num_heads, head = task % num_heads;
      const int64_t kv_head = head / (num_heads / pages.num_kv_heads);
      const int64_t last = segment.position + t;
      const float* query = q.row(segment.row_begin + t) + head * dim;
      std::vector<float> sum(static_cast<size_t>(dim), 0.0f);
      float best = -INFINITY, total = 0.0f;
      for (int64_t first = 0; first <= last; first += kKvPageTokens) {
        const int64_t page = page_tables[s][static_cast<size_t>(first / kKvPageTokens)];
        const int64_t visible = std::min(kKvPageTokens, last + 1 - first);
        float score[kKvPageTokens];
        float page_best = best;
        for (int64_t j = 0; j < visible; ++j) {
          float dot = 0.0f;
          for (int64_t d = 0; d < dim; ++d)
            dot += round_to(context.dtype, query[d]) *
                   load(pages, pages.keys, page_index(pages, page, kv_head, j) + d);
          score[j] = dot * scale;
          page_best = std::max(page_best, score[j]);
        }
        const float shrink = std::exp(best - page_best);
        total *= shrink;
        for (float& value : sum) value *= shrink;
        for (int64_t j = 0; j < visible; ++j) {
          const float p = std::exp(score[j] - page_best);
          total += p;
          for (int64_t d = 0; d < dim; ++d)
            sum[static_cast<size_t>(d)] +=
                p * load(pages, pages.values, page_index(pages, page, kv_head, j) + d);
        }
        best = page_best;
      }
      for (int64_t d = 0; d < dim; ++d)
        out.row(segment.row_begin + t)[head * dim + d] = sum[static_cast<size_t>(d)] / total;
    });
  }
}

}  // namespace nemo::kernels
