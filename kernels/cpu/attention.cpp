#include "kernels/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

static_assert(kKvPageTokens == kBlockColumns, "the keys of a page are one packed block of a matrix");

/// Queries (rows times heads of one KV head) a task has about: enough to use a page's keys often, few enough
/// that their sums stay in L2.
constexpr int64_t kTaskQueries = 64;

/// One task's rows of one segment.
struct RowBlock {
  size_t segment = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// What one query carries from page to page, and where its parts lie.
struct Buffers {
  Scratch packed, sums, states, rounded;
};

void check(std::span<const Segment> segments, std::span<const PageTable> page_tables, int64_t rows,
           const KvPages& pages) {
  NEMO_CHECK(segments.size() == page_tables.size(), "one page table per segment");
  NEMO_CHECK(pages.num_kv_heads > 0 && pages.head_dim > 0, "no KV heads");
  NEMO_CHECK(pages.dtype == DType::kFloat32 || pages.head_dim % 2 == 0, "odd head_dim in bfloat16");
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

/// First element of one KV head's part of a page.
int64_t head_begin(const KvPages& pages, int64_t page, int64_t kv_head) {
  return (page * pages.num_kv_heads + kv_head) * kKvPageTokens * pages.head_dim;
}

float convert(float x, float*) {
  return x;
}
bf16 convert(float x, bf16*) {
  return bf16::from_float(x);
}

template <class Stored>
void append_token(const KvPages& pages, int64_t page, int64_t token, const float* k, const float* v) {
  constexpr int64_t kStep = sizeof(Stored) == 2 ? 2 : 1;
  for (int64_t h = 0; h < pages.num_kv_heads; ++h, k += pages.head_dim, v += pages.head_dim) {
    const int64_t begin = head_begin(pages, page, h);
    Stored* keys = reinterpret_cast<Stored*>(pages.keys) + begin + token * kStep;
    Stored* values = reinterpret_cast<Stored*>(pages.values) + begin + token * pages.head_dim;
    for (int64_t d = 0; d < pages.head_dim; ++d) {
      keys[d / kStep * kKvPageTokens * kStep + d % kStep] = convert(k[d], keys);
      values[d] = convert(v[d], values);
    }
  }
}

/// Attention of some rows and some query heads of one KV head: all of one task.
class QueryBlock {
 public:
  QueryBlock(const Context& context, const KvPages& pages, int64_t num_tiles, int64_t num_rows,
             Buffers& buffers)
      : kernels_(row_kernels(context.isa)), context_(context), pages_(pages), num_tiles_(num_tiles) {
    const int64_t steps = pages.dtype == DType::kFloat32 ? pages.head_dim : ceil_div(pages.head_dim, 2);
    steps_ = steps;
    packed_query_bytes_ = steps * kernels_.x_step_bytes(pages.dtype);
    const int64_t queries = num_rows * num_tiles * kTileRows;
    packed_ = buffers.packed.get<std::byte>(queries * packed_query_bytes_);
    sums_ = buffers.sums.get<float>(queries * pages.head_dim);
    states_ = buffers.states.get<SoftmaxState>(queries);
    rounded_ = buffers.rounded.get<float>(kTileRows * pages.head_dim);
    std::fill_n(sums_, queries * pages.head_dim, 0.0f);
    std::fill_n(states_, queries, SoftmaxState{.max = -std::numeric_limits<float>::infinity(), .sum = 0.0f});
  }

  /// `heads` query heads, head_dim apart, become one tile of one row.
  void set_queries(int64_t row, int64_t tile, const float* q, int64_t heads) {
    const int64_t dim = pages_.head_dim;
    std::copy_n(q, heads * dim, rounded_);
    if (context_.dtype == DType::kBFloat16) kernels_.round_bf16(rounded_, heads * dim);
    kernels_.pack_x(pages_.dtype, rounded_, dim, heads, dim,
                    packed_ + first(row, tile) * packed_query_bytes_);
  }

  /// The first `visible` tokens of a page are added to what the queries of a tile have seen.
  void visit_page(int64_t row, int64_t tile, int64_t heads, int64_t page, int64_t kv_head, int64_t visible) {
    alignas(64) float scores[kTileRows * kKvPageTokens];
    float shrink[kTileRows];
    const int64_t at = head_begin(pages_, page, kv_head) * dtype_bytes(pages_.dtype);
    kernels_.matmul_tile(pages_.dtype, {.x = packed_ + first(row, tile) * packed_query_bytes_,
                                        .weight = pages_.keys + at,
                                        .steps = steps_,
                                        .rows = heads,
                                        .columns = kKvPageTokens,
                                        .y = scores,
                                        .y_stride = kKvPageTokens});
    const float scale = 1.0f / std::sqrt(static_cast<float>(pages_.head_dim));
    for (int64_t h = 0; h < heads; ++h)
      shrink[h] =
          kernels_.softmax_page(scores + h * kKvPageTokens, visible, scale, states_[first(row, tile) + h]);
    kernels_.add_values(pages_.dtype, pages_.values + at, visible, pages_.head_dim, scores, shrink, heads,
                        sums_ + first(row, tile) * pages_.head_dim);
  }

  void write(int64_t row, int64_t tile, int64_t heads, float* out) const {
    const int64_t dim = pages_.head_dim;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t d = 0; d < dim; ++d)
        out[h * dim + d] = sums_[(first(row, tile) + h) * dim + d] / states_[first(row, tile) + h].sum;
  }

 private:
  int64_t first(int64_t row, int64_t tile) const { return (row * num_tiles_ + tile) * kTileRows; }

  const RowKernels& kernels_;
  const Context& context_;
  const KvPages& pages_;
  int64_t num_tiles_, steps_ = 0, packed_query_bytes_ = 0;
  std::byte* packed_ = nullptr;
  float *sums_ = nullptr, *rounded_ = nullptr;
  SoftmaxState* states_ = nullptr;
};

}  // namespace

void append_kv(const Context& context, std::span<const Segment> segments,
               std::span<const PageTable> page_tables, TensorView<const float> k, TensorView<const float> v,
               const KvPages& pages) {
  check(segments, page_tables, k.rows, pages);
  NEMO_CHECK(k.cols == pages.num_kv_heads * pages.head_dim && v.cols == k.cols && v.rows == k.rows,
             "k and v are not [rows, num_kv_heads * head_dim]");
  context.threads.run(static_cast<int64_t>(segments.size()), [&](int64_t s) {
    const Segment& segment = segments[static_cast<size_t>(s)];
    for (int64_t t = 0; t < segment.row_count; ++t) {
      const int64_t position = segment.position + t, row = segment.row_begin + t;
      const int32_t page = page_tables[static_cast<size_t>(s)][static_cast<size_t>(position / kKvPageTokens)];
      const auto append = pages.dtype == DType::kFloat32 ? append_token<float> : append_token<bf16>;
      append(pages, page, position % kKvPageTokens, k.row(row), v.row(row));
    }
  });
}

void paged_attention(const Context& context, std::span<const Segment> segments,
                     std::span<const PageTable> page_tables, TensorView<const float> q, int64_t num_heads,
                     const KvPages& pages, TensorView<float> out) {
  check(segments, page_tables, q.rows, pages);
  NEMO_CHECK(num_heads > 0 && num_heads % pages.num_kv_heads == 0, "KV heads do not divide query heads");
  NEMO_CHECK(q.cols == num_heads * pages.head_dim && out.cols == q.cols && out.rows == q.rows,
             "q and out are not [rows, num_heads * head_dim]");
  const int64_t heads_per_kv = num_heads / pages.num_kv_heads;
  const int64_t tiles = ceil_div(heads_per_kv, kTileRows);
  const auto tile_head = [&](int64_t tile) { return heads_per_kv * tile / tiles; };  // of nearly equal height

  static thread_local std::vector<RowBlock> row_blocks_of_this_thread;
  std::vector<RowBlock>& row_blocks = row_blocks_of_this_thread;
  row_blocks.clear();
  const int64_t rows_per_block = std::max<int64_t>(1, kTaskQueries / heads_per_kv);
  for (size_t s = 0; s < segments.size(); ++s)
    for (int64_t begin = 0; begin < segments[s].row_count; begin += rows_per_block)
      row_blocks.push_back({s, begin, std::min(segments[s].row_count, begin + rows_per_block)});

  // Few long sequences: the heads of a group are divided too, at the price of reading its pages more often.
  const auto whole_tasks = static_cast<int64_t>(row_blocks.size()) * pages.num_kv_heads;
  const int64_t tile_tasks = whole_tasks < 2 * context.threads.num_threads() ? tiles : 1;
  context.threads.run(whole_tasks * tile_tasks, [&](int64_t task) {
    static thread_local Buffers buffers;
    const int64_t tile_begin = tile_tasks == 1 ? 0 : task % tile_tasks;
    const int64_t tile_end = tile_tasks == 1 ? tiles : tile_begin + 1;
    const int64_t kv_head = task / tile_tasks % pages.num_kv_heads;
    const RowBlock& block = row_blocks[static_cast<size_t>(task / tile_tasks / pages.num_kv_heads)];
    const Segment& segment = segments[block.segment];
    const int64_t num_tiles = tile_end - tile_begin, num_rows = block.end - block.begin;
    QueryBlock queries(context, pages, num_tiles, num_rows, buffers);
    const auto for_each_tile = [&](int64_t row, auto&& body) {
      for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
        const int64_t head = kv_head * heads_per_kv + tile_head(tile);
        body(row, tile - tile_begin, tile_head(tile + 1) - tile_head(tile),
             (segment.row_begin + block.begin + row), head * pages.head_dim);
      }
    };
    for (int64_t row = 0; row < num_rows; ++row)
      for_each_tile(row, [&](int64_t i, int64_t tile, int64_t heads, int64_t batch_row, int64_t column) {
        queries.set_queries(i, tile, q.row(batch_row) + column, heads);
      });
    const int64_t end_position = segment.position + block.end;
    for (int64_t begin = 0; begin < end_position; begin += kKvPageTokens) {
      const int32_t page = page_tables[block.segment][static_cast<size_t>(begin / kKvPageTokens)];
      for (int64_t row = 0; row < num_rows; ++row) {
        const int64_t visible = std::min(kKvPageTokens, segment.position + block.begin + row + 1 - begin);
        if (visible <= 0) continue;
        for_each_tile(row, [&](int64_t i, int64_t tile, int64_t heads, int64_t, int64_t) {
          queries.visit_page(i, tile, heads, page, kv_head, visible);
        });
      }
    }
    for (int64_t row = 0; row < num_rows; ++row)
      for_each_tile(row, [&](int64_t i, int64_t tile, int64_t heads, int64_t batch_row, int64_t column) {
        queries.write(i, tile, heads, out.row(batch_row) + column);
      });
  });
}

}  // namespace nemo::kernels
