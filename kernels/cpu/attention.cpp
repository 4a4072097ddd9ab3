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

/// Of one thread, kept for its next task.
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

template <class Stored>
Stored stored(float x) {
  if constexpr (sizeof(Stored) == 2) {
    return bf16::from_float(x);
  } else {
    return x;
  }
}

template <class Stored>
void append_token(const KvPages& pages, int64_t page, int64_t token, const float* k, const float* v) {
  constexpr int64_t kStep = sizeof(Stored) == 2 ? 2 : 1;
  for (int64_t h = 0; h < pages.num_kv_heads; ++h, k += pages.head_dim, v += pages.head_dim) {
    const int64_t begin = head_begin(pages, page, h);
    Stored* keys = reinterpret_cast<Stored*>(pages.keys) + begin + token * kStep;
    Stored* values = reinterpret_cast<Stored*>(pages.values) + begin + token * pages.head_dim;
    for (int64_t d = 0; d < pages.head_dim; ++d) {
      keys[d / kStep * kKvPageTokens * kStep + d % kStep] = stored<Stored>(k[d]);
      values[d] = stored<Stored>(v[d]);
    }
  }
}

/// What all tasks of one call share.
struct Call {
  const Context& context;
  const RowKernels& kernels;
  const KvPages& pages;
  TensorView<const float> q;
  TensorView<float> out;
  int64_t heads_per_kv;
  int64_t tiles_per_kv;  ///< the heads of a KV head as tiles of nearly equal height

  int64_t tile_head(int64_t tile) const { return heads_per_kv * tile / tiles_per_kv; }
};

/// The rows of a block and some tiles of heads of one KV head: all of one task.
class QueryBlock {
 public:
  QueryBlock(const Call& call, const Segment& segment, PageTable page_table, const RowBlock& rows,
             int64_t kv_head, int64_t tile_begin, int64_t tile_end, Buffers& buffers)
      : call_(call),
        segment_(segment),
        page_table_(page_table),
        rows_(rows),
        kv_head_(kv_head),
        tile_begin_(tile_begin),
        tile_end_(tile_end),
        dim_(call.pages.head_dim),
        steps_(call.pages.dtype == DType::kFloat32 ? dim_ : ceil_div(dim_, 2)),
        packed_query_bytes_(steps_ * call.kernels.x_step_bytes(call.pages.dtype)) {
    const int64_t queries = (rows.end - rows.begin) * (tile_end - tile_begin) * kTileRows;
    packed_ = buffers.packed.get<std::byte>(queries * packed_query_bytes_);
    sums_ = buffers.sums.get<float>(queries * dim_);
    states_ = buffers.states.get<SoftmaxState>(queries);
    rounded_ = buffers.rounded.get<float>(kTileRows * dim_);
    std::fill_n(sums_, queries * dim_, 0.0f);
    std::fill_n(states_, queries, SoftmaxState{.max = -std::numeric_limits<float>::infinity(), .sum = 0.0f});
  }

  void run() {
    for_each_tile([&](const Tile& tile) { pack_queries(tile); });
    const int64_t end_position = segment_.position + rows_.end;
    for (int64_t begin = 0; begin < end_position; begin += kKvPageTokens) {
      const int64_t page = page_table_[static_cast<size_t>(begin / kKvPageTokens)];
      const int64_t offset = head_begin(call_.pages, page, kv_head_) * dtype_bytes(call_.pages.dtype);
      for_each_tile([&](const Tile& tile) {
        const int64_t visible = std::min(kKvPageTokens, segment_.position + tile.row + 1 - begin);
        if (visible > 0) visit_page(tile, offset, visible);
      });
    }
    for_each_tile([&](const Tile& tile) { write(tile); });
  }

 private:
  struct Tile {
    int64_t row;     ///< within the segment
    int64_t column;  ///< of q and out, where its first head begins
    int64_t heads;
    int64_t query;  ///< where its heads lie in the buffers
  };

  template <class Body>
  void for_each_tile(Body&& body) const {
    int64_t query = 0;
    for (int64_t row = rows_.begin; row < rows_.end; ++row)
      for (int64_t t = tile_begin_; t < tile_end_; ++t, query += kTileRows) {
        const int64_t head = kv_head_ * call_.heads_per_kv + call_.tile_head(t);
        body(Tile{row, head * dim_, call_.tile_head(t + 1) - call_.tile_head(t), query});
      }
  }

  std::byte* packed(const Tile& tile) const { return packed_ + tile.query * packed_query_bytes_; }

  void pack_queries(const Tile& tile) {
    std::copy_n(call_.q.row(segment_.row_begin + tile.row) + tile.column, tile.heads * dim_, rounded_);
    if (call_.context.dtype == DType::kBFloat16) call_.kernels.round_bf16(rounded_, tile.heads * dim_);
    call_.kernels.pack_x(call_.pages.dtype, rounded_, dim_, tile.heads, dim_, packed(tile));
  }

  /// The first `visible` tokens of the page at `offset` bytes are added to what the tile's queries have seen.
  void visit_page(const Tile& tile, int64_t offset, int64_t visible) {
    const KvPages& pages = call_.pages;
    alignas(64) float scores[kTileRows * kKvPageTokens];
    float shrink[kTileRows];
    call_.kernels.matmul_tile(pages.dtype, {.x = packed(tile),
                                            .weight = pages.keys + offset,
                                            .steps = steps_,
                                            .rows = tile.heads,
                                            .columns = kKvPageTokens,
                                            .y = scores,
                                            .y_stride = kKvPageTokens});
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim_));
    for (int64_t h = 0; h < tile.heads; ++h)
      shrink[h] =
          call_.kernels.softmax_page(scores + h * kKvPageTokens, visible, scale, states_[tile.query + h]);
    call_.kernels.add_values(pages.dtype, pages.values + offset, visible, dim_, scores, shrink, tile.heads,
                             sums_ + tile.query * dim_);
  }

  void write(const Tile& tile) const {
    float* out = call_.out.row(segment_.row_begin + tile.row) + tile.column;
    for (int64_t h = 0; h < tile.heads; ++h)
      for (int64_t d = 0; d < dim_; ++d)
        out[h * dim_ + d] = sums_[(tile.query + h) * dim_ + d] / states_[tile.query + h].sum;
  }

  const Call& call_;
  const Segment& segment_;
  PageTable page_table_;
  RowBlock rows_;
  int64_t kv_head_, tile_begin_, tile_end_, dim_, steps_, packed_query_bytes_;
  std::byte* packed_ = nullptr;
  float *sums_ = nullptr, *rounded_ = nullptr;
  SoftmaxState* states_ = nullptr;
};

std::vector<RowBlock> divide_rows(std::span<const Segment> segments, int64_t rows_per_block) {
  std::vector<RowBlock> blocks;
  for (size_t s = 0; s < segments.size(); ++s)
    for (int64_t begin = 0; begin < segments[s].row_count; begin += rows_per_block)
      blocks.push_back({s, begin, std::min(segments[s].row_count, begin + rows_per_block)});
  return blocks;
}

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
  const int64_t kv_heads = pages.num_kv_heads, heads_per_kv = num_heads / kv_heads;
  const Call call{context,      row_kernels(context.isa),         pages, q, out,
                  heads_per_kv, ceil_div(heads_per_kv, kTileRows)};
  const std::vector<RowBlock> blocks =
      divide_rows(segments, std::max<int64_t>(1, kTaskQueries / heads_per_kv));

  // Few long sequences: the heads of a KV head are divided too, at the price of reading its pages more often.
  const auto whole_tasks = static_cast<int64_t>(blocks.size()) * kv_heads;
  const int64_t parts = whole_tasks < 2 * context.threads.num_threads() ? call.tiles_per_kv : 1;
  context.threads.run(whole_tasks * parts, [&](int64_t task) {
    static thread_local Buffers buffers;
    const int64_t part = task % parts, kv_head = task / parts % kv_heads;
    const RowBlock& block = blocks[static_cast<size_t>(task / parts / kv_heads)];
    QueryBlock(call, segments[block.segment], page_tables[block.segment], block, kv_head,
               call.tiles_per_kv * part / parts, call.tiles_per_kv * (part + 1) / parts, buffers)
        .run();
  });
}

}  // namespace nemo::kernels
