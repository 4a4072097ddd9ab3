#include "kernels/ops/attention.h"

#include <algorithm>
#include <cmath>
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
/// that their sums stay in L2. 6 rows of 16 heads fill all tiles.
constexpr int64_t kTaskQueries = 96;

/// Pages of a stretch. Part of the numerics: every row's keys are visited in stretches, each with an online
/// softmax of its own, and the stretches are merged in rising order. So the stretches of a long sequence can
/// be visited by different threads.
constexpr int64_t kStretchPages = 8;
constexpr int64_t kStretchTokens = kStretchPages * kKvPageTokens;

/// One task's rows of one segment.
struct RowBlock {
  size_t segment = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// What a task has seen of one stretch or of several merged ones: sums [queries, head_dim], not yet divided.
struct Seen {
  SoftmaxState* states = nullptr;
  float* sums = nullptr;
};

struct SeenBuffer {
  Scratch states, sums;
  Seen get(int64_t queries, int64_t head_dim) {
    return {states.get<SoftmaxState>(queries), sums.get<float>(queries * head_dim)};
  }
};

/// Of one thread, kept for its next task.
struct Buffers {
  Scratch packed, rounded, scores;
  SeenBuffer stretch, total;
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
    Stored* values = reinterpret_cast<Stored*>(pages.values) + begin +
                     token / kStep * kStep * pages.head_dim + token % kStep;
    for (int64_t d = 0; d < pages.head_dim; ++d) {
      keys[d / kStep * kKvPageTokens * kStep + d % kStep] = stored<Stored>(k[d]);
      values[d * kStep] = stored<Stored>(v[d]);
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
};

/// The rows of a block times the heads of one KV head: the queries of one task, heads fastest.
class QueryBlock {
 public:
  QueryBlock(const Call& call, const Segment& segment, PageTable page_table, const RowBlock& rows,
             int64_t kv_head)
      : call_(call),
        segment_(segment),
        page_table_(page_table),
        rows_(rows),
        kv_head_(kv_head),
        dim_(call.pages.head_dim) {}

  int64_t queries() const { return (rows_.end - rows_.begin) * call_.heads_per_kv; }
  int64_t stretches() const { return ceil_div(segment_.position + rows_.end, kStretchTokens); }

  /// The queries as matmul_tile reads them.
  const std::byte* pack(Buffers& buffers) const {
    auto* packed = buffers.packed.get<std::byte>(queries() * packed_bytes());
    auto* rounded = buffers.rounded.get<float>(kTileRows * dim_);
    for_each_tile(0, queries(), [&](int64_t begin, int64_t end) {
      for (int64_t q = begin; q < end; ++q)
        std::copy_n(call_.q.row(row_of(q)) + column_of(q), dim_, rounded + (q - begin) * dim_);
      const int64_t rows = end - begin;
      if (call_.context.dtype == DType::kBFloat16) call_.kernels.round_bf16(rounded, rows * dim_);
      call_.kernels.pack_x(call_.pages.dtype, rounded, dim_, rows, dim_, packed + begin * packed_bytes());
    });
    return packed;
  }

  /// What the queries see of one stretch.
  void visit(int64_t stretch, const std::byte* packed, Scratch& scratch, const Seen& seen) const {
    std::fill_n(seen.states, queries(), SoftmaxState{});
    std::fill_n(seen.sums, queries() * dim_, 0.0f);
    auto* scores = scratch.get<float>(queries() * kKvPageTokens);
    const int64_t end =
        std::min((stretch + 1) * kStretchPages, ceil_div(segment_.position + rows_.end, kKvPageTokens));
    for (int64_t page = stretch * kStretchPages; page < end; ++page) {
      score(page, packed, scores);
      for_each_visible(page, [&](int64_t row, int64_t end_row, int64_t visible) {
        add_values(page, query(row), query(end_row), visible, scores, seen);
      });
    }
  }

  /// Adds what the queries have seen of a later stretch; rows before it have seen nothing of it.
  void merge(int64_t stretch, const Seen& later, const Seen& into) const {
    const int64_t first = query(std::max(rows_.begin, stretch * kStretchTokens - segment_.position));
    call_.kernels.merge_stretches(later.states + first, later.sums + first * dim_, queries() - first, dim_,
                                  into.states + first, into.sums + first * dim_);
  }

  void write(const Seen& seen) const {
    for (int64_t q = 0; q < queries(); ++q) {
      float* out = call_.out.row(row_of(q)) + column_of(q);
      for (int64_t d = 0; d < dim_; ++d) out[d] = seen.sums[q * dim_ + d] / seen.states[q].sum;
    }
  }

 private:
  /// The first query of a row of the segment.
  int64_t query(int64_t row) const { return (row - rows_.begin) * call_.heads_per_kv; }
  int64_t row_of(int64_t query) const {
    return segment_.row_begin + rows_.begin + query / call_.heads_per_kv;
  }
  int64_t column_of(int64_t query) const {
    return (kv_head_ * call_.heads_per_kv + query % call_.heads_per_kv) * dim_;
  }

  /// Calls body(begin, end) for tiles of nearly equal height.
  template <class Body>
  void for_each_tile(int64_t begin, int64_t end, Body&& body) const {
    const int64_t tiles = ceil_div(end - begin, kTileRows);
    for (int64_t t = 0; t < tiles; ++t)
      body(begin + (end - begin) * t / tiles, begin + (end - begin) * (t + 1) / tiles);
  }

  /// Calls body(row, end_row, visible) for the rows that see the page, those together that see all of it.
  template <class Body>
  void for_each_visible(int64_t page, Body&& body) const {
    for (int64_t row = rows_.begin, next; row < rows_.end; row = next) {
      const int64_t visible = std::min(kKvPageTokens, segment_.position + row + 1 - page * kKvPageTokens);
      next = visible == kKvPageTokens ? rows_.end : row + 1;
      if (visible > 0) body(row, next, visible);
    }
  }

  int64_t steps() const { return call_.pages.dtype == DType::kFloat32 ? dim_ : ceil_div(dim_, 2); }
  int64_t packed_bytes() const { return steps() * call_.kernels.x_step_bytes(call_.pages.dtype); }

  int64_t page_offset(int64_t page) const {
    return head_begin(call_.pages, page_table_[static_cast<size_t>(page)], kv_head_) *
           dtype_bytes(call_.pages.dtype);
  }

  /// Keys or values of the page after this one, null after the last. The last tile asks memory for them: it
  /// finds this page's in L1.
  const std::byte* next(const std::byte* keys_or_values, int64_t page) const {
    const bool last = page + 1 >= ceil_div(segment_.position + rows_.end, kKvPageTokens);
    return last ? nullptr : keys_or_values + page_offset(page + 1);
  }

  void score(int64_t page, const std::byte* packed, float* scores) const {
    for_each_tile(0, queries(), [&](int64_t begin, int64_t end) {
      call_.kernels.matmul_tile(call_.pages.dtype,
                                {.x = packed + begin * packed_bytes(),
                                 .weight = call_.pages.keys + page_offset(page),
                                 .steps = steps(),
                                 .rows = end - begin,
                                 .columns = kKvPageTokens,
                                 .y = scores + begin * kKvPageTokens,
                                 .y_stride = kKvPageTokens,
                                 .ahead = end == queries() ? next(call_.pages.keys, page) : nullptr});
    });
  }

  void add_values(int64_t page, int64_t begin, int64_t end, int64_t visible, float* scores,
                  const Seen& seen) const {
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim_));
    call_.kernels.softmax_page(scores + begin * kKvPageTokens, end - begin, visible, scale,
                               seen.states + begin);
    for_each_tile(begin, end, [&](int64_t first, int64_t tile_end) {
      call_.kernels.add_values(call_.pages.dtype,
                               {.values = call_.pages.values + page_offset(page),
                                .visible = visible,
                                .head_dim = dim_,
                                .weights = scores + first * kKvPageTokens,
                                .states = seen.states + first,
                                .rows = tile_end - first,
                                .sums = seen.sums + first * dim_,
                                .ahead = tile_end == queries() ? next(call_.pages.values, page) : nullptr});
    });
  }

  const Call& call_;
  const Segment& segment_;
  PageTable page_table_;
  RowBlock rows_;
  int64_t kv_head_, dim_;
};

std::vector<RowBlock> divide_rows(std::span<const Segment> segments, int64_t rows_per_block) {
  std::vector<RowBlock> blocks;
  for (size_t s = 0; s < segments.size(); ++s)
    for (int64_t begin = 0; begin < segments[s].row_count; begin += rows_per_block)
      blocks.push_back({s, begin, std::min(segments[s].row_count, begin + rows_per_block)});
  return blocks;
}

/// A task is a block with all its stretches.
void attend_by_blocks(const Call& call, std::span<const QueryBlock> blocks) {
  call.context.threads.run(static_cast<int64_t>(blocks.size()), [&](int64_t i) {
    static thread_local Buffers buffers;
    const QueryBlock& block = blocks[static_cast<size_t>(i)];
    const std::byte* packed = block.pack(buffers);
    const Seen total = buffers.total.get(block.queries(), call.pages.head_dim);
    block.visit(0, packed, buffers.scores, total);
    const Seen stretch = buffers.stretch.get(block.queries(), call.pages.head_dim);
    for (int64_t s = 1; s < block.stretches(); ++s) {
      block.visit(s, packed, buffers.scores, stretch);
      block.merge(s, stretch, total);
    }
    block.write(total);
  });
}

/// For few long sequences: a task is one stretch of a block, at the price of keeping what is seen of each.
void attend_by_stretches(const Call& call, std::span<const QueryBlock> blocks) {
  struct Task {
    const QueryBlock* block;
    int64_t stretch, query;  ///< where what it has seen lies
  };
  std::vector<Task> tasks;
  int64_t queries = 0;
  for (const QueryBlock& block : blocks)
    for (int64_t s = 0; s < block.stretches(); ++s, queries += block.queries())
      tasks.push_back({&block, s, queries});
  static thread_local SeenBuffer seen_buffer;
  const Seen all = seen_buffer.get(queries, call.pages.head_dim);
  const auto seen = [&](const Task& task) {
    return Seen{all.states + task.query, all.sums + task.query * call.pages.head_dim};
  };
  call.context.threads.run(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    static thread_local Buffers buffers;
    const Task& task = tasks[static_cast<size_t>(i)];
    task.block->visit(task.stretch, task.block->pack(buffers), buffers.scores, seen(task));
  });
  for (size_t i = 0; i < tasks.size(); ++i) {
    const Task& task = tasks[i];
    const size_t first = i - static_cast<size_t>(task.stretch);
    if (task.stretch > 0) task.block->merge(task.stretch, seen(task), seen(tasks[first]));
    if (task.stretch + 1 == task.block->stretches()) task.block->write(seen(tasks[first]));
  }
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
  const Call call{context, row_kernels(context.isa), pages, q, out, num_heads / pages.num_kv_heads};
  std::vector<QueryBlock> blocks;
  for (const RowBlock& rows : divide_rows(segments, std::max<int64_t>(1, kTaskQueries / call.heads_per_kv)))
    for (int64_t kv_head = 0; kv_head < pages.num_kv_heads; ++kv_head)
      blocks.emplace_back(call, segments[rows.segment], page_tables[rows.segment], rows, kv_head);
  const int threads = context.threads.num_threads();
  if (threads > 1 && static_cast<int64_t>(blocks.size()) < 2 * threads) {
    attend_by_stretches(call, blocks);
  } else {
    attend_by_blocks(call, blocks);
  }
}

}  // namespace nemo::kernels
