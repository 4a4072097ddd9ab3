// Grouped-query attention over a paged KV cache; no positional embedding. nemotron_h.md 2.4.
//
// Row-pure: pages start at fixed absolute positions, alike in prefill and decode. Every stretch of 8 pages
// has a softmax of its own, its values are summed in rising order, first those of whole pages, then those of
// the page that ends with the row, and the stretches of a sequence are merged in rising order. Keys and
// values of the step's own rows are appended first and read back from the pages.
//
// Where keys and values are bfloat16 or FP8 and the job computes in bfloat16, the weights e^(score - largest
// score of the stretch) are rounded to bfloat16 for their product with the values, as the reference
// implementation does; what the sums are divided by is the sum of the weights before that.
//
// FP8 pages hold e4m3 codes: of a key the code of k / key_scale, of a value that of v / value_scale. The
// quotient is a float, rounded to the nearest code, ties to even; beyond 448 it becomes 448 with its sign,
// infinities too; NaN stays NaN. A code stands for itself times the scale, and the scales are applied in two
// places only: scores are multiplied by key_scale / sqrt(head_dim) where they were multiplied by 1 /
// sqrt(head_dim), and the output is multiplied by value_scale at the very end. So codes are widened exactly,
// and pages of the same numbers give the same bits in FP8 with scales of 1 and in bfloat16.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/context.h"

namespace nemo::kernels {

/// Tokens a page holds. Part of the numerics: a row's own page is summed apart from the whole ones.
inline constexpr int64_t kKvPageTokens = 64;

/// Pages that hold so many tokens of one sequence.
constexpr int64_t kv_pages_of(int64_t num_tokens) {
  return (num_tokens + kKvPageTokens - 1) / kKvPageTokens;
}

/// How keys and values are stored.
enum class KvFormat : uint8_t {
  kFloat32,
  kBFloat16,
  kFp8,  ///< e4m3, with a scale for all keys of a layer and one for all values
};

constexpr KvFormat kv_format(DType dtype) {
  return dtype == DType::kFloat32 ? KvFormat::kFloat32 : KvFormat::kBFloat16;
}

/// Bytes of one element of a key or value.
constexpr int64_t kv_element_bytes(KvFormat format) {
  return format == KvFormat::kFloat32 ? 4 : format == KvFormat::kBFloat16 ? 2 : 1;
}

/// Of one layer's FP8 pages; finite and positive.
struct KvScales {
  float key = 1;
  float value = 1;
};

/// The pages of one attention layer, borrowed: of every page the keys, and apart from them the values, of one
/// KV head after the other, as packed 64-column blocks of matrices (kernels/ops/matmul.h), so that attention
/// is two products of them. The keys of a page are one block with a column for each token. The values are
/// blocks of 64 columns of head_dim, each with a row for each token; columns beyond head_dim are never read
/// for what they hold. In FP8 and bfloat16 head_dim must be even. Keys take as much room as values:
/// [num_pages, num_kv_heads, kKvPageTokens * stored_dim] elements. Slots of tokens not yet stored may hold
/// anything.
struct KvPages {
  KvFormat format = KvFormat::kFloat32;
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  int64_t num_pages = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  KvScales scales = {};  ///< of FP8; others are not scaled

  /// head_dim in whole blocks.
  static constexpr int64_t stored_dim(int64_t head_dim) { return (head_dim + 63) / 64 * 64; }

  /// Bytes of keys and values together of one page.
  static int64_t page_bytes(KvFormat format, int64_t num_kv_heads, int64_t head_dim) {
    return 2 * num_kv_heads * kKvPageTokens * stored_dim(head_dim) * kv_element_bytes(format);
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
/// context.dtype first, and to bfloat16 if the pages are. q, out [rows, num_heads * head_dim]; query head j
/// reads KV head j / (num_heads / num_kv_heads).
void paged_attention(const Context& context, std::span<const Segment> segments,
                     std::span<const PageTable> page_tables, TensorView<const float> q, int64_t num_heads,
                     const KvPages& pages, TensorView<float> out);

}  // namespace nemo::kernels
