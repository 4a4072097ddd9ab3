// Grouped-query attention over a paged KV cache; no positional embedding. nemotron_h.md 2.4.
//
// Row-pure: keys are visited page by page, pages start at fixed absolute positions, with one online-softmax
// order, alike in prefill and decode: one within each stretch of 8 pages, and the stretches of a sequence are
// merged in rising order. Keys and values of the step's own rows are appended first and read back from the
// pages.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/context.h"

namespace nemo::kernels {

/// Tokens a page holds. Part of the numerics: the online softmax rescales at page boundaries.
inline constexpr int64_t kKvPageTokens = 64;

/// The pages of one attention layer, borrowed: of every page the keys, and apart from them the values, of one
/// KV head after the other. Keys are stored as a packed 64-column block of a matrix (kernels/ops/matmul.h),
/// one column a token, so that the scores of a page are one matrix tile: [num_pages, num_kv_heads, head_dim /
/// 2, kKvPageTokens, 2] for bfloat16 (head_dim must be even) and [num_pages, num_kv_heads, head_dim,
/// kKvPageTokens] for float32. Values likewise, two tokens interleaved: [num_pages, num_kv_heads,
/// kKvPageTokens / 2, head_dim, 2] and [num_pages, num_kv_heads, kKvPageTokens, head_dim]. Slots of tokens
/// not yet stored may hold anything.
struct KvPages {
  DType dtype = DType::kFloat32;
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  int64_t num_pages = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;

  /// Bytes of keys and values together of one page.
  static int64_t page_bytes(DType dtype, int64_t num_kv_heads, int64_t head_dim) {
    return 2 * num_kv_heads * kKvPageTokens * head_dim * dtype_bytes(dtype);
  }
};

/// page_table[p] is the page that holds positions [p * kKvPageTokens, (p + 1) * kKvPageTokens) of one
/// sequence.
using PageTable = std::span<const int32_t>;

/// Stores k, v [rows, num_kv_heads * head_dim] of every segment at its positions. page_tables is parallel to
/// segments.
void append_kv(const Context& context, std::span<const Segment> segments,
               std::span<const PageTable> page_tables, TensorView<const float> k, TensorView<const float> v,
               const KvPages& pages);

/// out = softmax(q K^T / sqrt(head_dim)) V, causal: the row at position p sees keys [0, p]. q is rounded to
/// context.dtype (and to the pages' type) first. q, out [rows, num_heads * head_dim]; query head j reads KV
/// head j / (num_heads / num_kv_heads).
void paged_attention(const Context& context, std::span<const Segment> segments,
                     std::span<const PageTable> page_tables, TensorView<const float> q, int64_t num_heads,
                     const KvPages& pages, TensorView<float> out);

}  // namespace nemo::kernels
