// Storing keys and values.
#include "kernels/cpu/kv_pages.h"

#include <cmath>
#include <string>
#include <type_traits>

#include "kernels/cpu/packed_block.h"
#include "kernels/e4m3.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// Place in a packed block of a matrix (kernels/cpu/packed_block.h).
template <class Stored>
int64_t place_in_block(int64_t k, int64_t column) {
  const int64_t pair = k / 2 * 2 * kBlockColumns;
  if constexpr (std::is_same_v<Stored, e4m3>) return pair + 2 * fp8_place(column) + k % 2;
  if constexpr (std::is_same_v<Stored, bf16>) return pair + 2 * column + k % 2;
  return k * kBlockColumns + column;
}

template <class Stored>
Stored stored(float x, float scale) {
  if constexpr (std::is_same_v<Stored, e4m3>) return e4m3::from_float(x / scale);
  if constexpr (std::is_same_v<Stored, bf16>) return bf16::from_float(x);
  if constexpr (std::is_same_v<Stored, float>) return x;
}

template <class Stored>
void append_token(const KvPages& pages, int64_t page, int64_t token, const float* k, const float* v) {
  const int64_t head_dim = pages.head_dim;
  for (int64_t h = 0; h < pages.num_kv_heads; ++h, k += head_dim, v += head_dim) {
    const int64_t begin = kv_head_begin(pages, page, h);
    Stored* keys = reinterpret_cast<Stored*>(pages.keys) + begin;
    Stored* values = reinterpret_cast<Stored*>(pages.values) + begin;
    for (int64_t d = 0; d < head_dim; ++d) {
      const int64_t block = d / kBlockColumns * kKvPageTokens * kBlockColumns;
      keys[place_in_block<Stored>(d, token)] = stored<Stored>(k[d], pages.scales.key);
      values[block + place_in_block<Stored>(token, d % kBlockColumns)] =
          stored<Stored>(v[d], pages.scales.value);
    }
  }
}

/// append_token of what the pages hold.
auto append_for(KvFormat format) {
  return format == KvFormat::kFloat32    ? append_token<float>
         : format == KvFormat::kBFloat16 ? append_token<bf16>
                                         : append_token<e4m3>;
}

}  // namespace

void check_kv_pages(std::span<const Segment> segments, std::span<const PageTable> page_tables, int64_t rows,
                    const KvPages& pages) {
  NEMO_CHECK(segments.size() == page_tables.size(), "one page table per segment");
  NEMO_CHECK(pages.num_kv_heads > 0 && pages.head_dim > 0, "no KV heads");
  NEMO_CHECK(pages.format == KvFormat::kFloat32 || pages.head_dim % 2 == 0, "odd head_dim");
  for (const float scale : {pages.scales.key, pages.scales.value})
    NEMO_CHECK(std::isfinite(scale) && scale > 0, "KV scale " + std::to_string(scale));
  for (size_t s = 0; s < segments.size(); ++s) {
    const Segment& segment = segments[s];
    NEMO_CHECK(
        segment.row_begin >= 0 && segment.row_count >= 0 && segment.row_begin + segment.row_count <= rows,
        "segment outside of the batch");
    const int64_t needed =
        segment.row_count == 0 ? 0 : ceil_div(segment.position + segment.row_count, kKvPageTokens);
    NEMO_CHECK(static_cast<int64_t>(page_tables[s].size()) >= needed, "page table shorter than the sequence");
    for (int64_t p = 0; p < needed; ++p) {
      const int32_t page = page_tables[s][static_cast<size_t>(p)];
      NEMO_CHECK(page >= 0 && page < pages.num_pages, std::to_string(page));
    }
  }
}

void append_kv(const Context& context, std::span<const Segment> segments,
               std::span<const PageTable> page_tables, TensorView<const float> k, TensorView<const float> v,
               const KvPages& pages) {
  check_kv_pages(segments, page_tables, k.rows, pages);
  NEMO_CHECK(k.cols == pages.num_kv_heads * pages.head_dim && v.cols == k.cols && v.rows == k.rows,
             "k and v are not [rows, num_kv_heads * head_dim]");
  const auto append = append_for(pages.format);
  context.threads.run(static_cast<int64_t>(segments.size()), [&](int64_t s) {
    const Segment& segment = segments[static_cast<size_t>(s)];
    for (int64_t t = 0; t < segment.row_count; ++t) {
      const int64_t position = segment.position + t, row = segment.row_begin + t;
      const int32_t page = page_tables[static_cast<size_t>(s)][static_cast<size_t>(position / kKvPageTokens)];
      append(pages, page, position % kKvPageTokens, k.row(row), v.row(row));
    }
  });
}

}  // namespace nemo::kernels
