#include "kernels/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/kv_pages.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_tiles.h"
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
  Scratch packed, rounded, scores, widened;
  SeenBuffer stretch, total;
};

/// What a page is computed with: as it is stored, or what its FP8 is widened to.
struct PageTypes {
  DType queries;  ///< as which they are packed
  DType keys;     ///< as which matmul_tile reads them
  DType values;

  static PageTypes of(const KvPages& pages, const Context& context) {
    if (pages.format != KvFormat::kFp8) {
      const DType type = pages.format == KvFormat::kFloat32 ? DType::kFloat32 : DType::kBFloat16;
      return {type, type, type};
    }
    return {context.dtype, row_kernels(context.isa).widened_type(context.dtype), DType::kFloat32};
  }
};

/// What all tasks of one call share.
struct Call {
  const Context& context;
  const RowKernels& kernels;
  const KvPages& pages;
  PageTypes types;
  TensorView<const float> q;
  TensorView<float> out;
  int64_t heads_per_kv;

  bool is_fp8() const { return pages.format == KvFormat::kFp8; }
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
        dim_(call.pages.head_dim),
        shape_(call.kernels.tile_shape(call.types.queries)) {}

  int64_t queries() const { return (rows_.end - rows_.begin) * call_.heads_per_kv; }
  int64_t stretches() const { return ceil_div(segment_.position + rows_.end, kStretchTokens); }

  /// The queries as matmul_tile reads them.
  const std::byte* pack(Buffers& buffers) const {
    auto* packed = buffers.packed.get<std::byte>(queries_in_units() * packed_bytes());
    auto* rounded = buffers.rounded.get<float>(shape_.most_rows * dim_);
    for_each_tile(queries(), shape_, [&](int64_t begin, int64_t end) {
      for (int64_t q = begin; q < end; ++q)
        std::copy_n(call_.q.row(row_of(q)) + column_of(q), dim_, rounded + (q - begin) * dim_);
      const int64_t rows = end - begin;
      if (call_.context.dtype == DType::kBFloat16) call_.kernels.round_bf16(rounded, rows * dim_);
      call_.kernels.pack_x(call_.types.queries, 1.0f, rounded, dim_, rows, dim_,
                           packed + begin * packed_bytes());
    });
    return packed;
  }

  /// What the queries see of one stretch.
  void visit(int64_t stretch, const std::byte* packed, Buffers& buffers, const Seen& seen) const {
    std::fill_n(seen.states, queries(), SoftmaxState{});
    std::fill_n(seen.sums, queries() * dim_, 0.0f);
    auto* scores = buffers.scores.get<float>(queries_in_units() * kKvPageTokens);
    const int64_t end =
        std::min((stretch + 1) * kStretchPages, ceil_div(segment_.position + rows_.end, kKvPageTokens));
    for (int64_t page = stretch * kStretchPages; page < end; ++page) {
      score(page, packed, readable(call_.pages.keys, page, call_.types.keys, buffers), scores);
      const std::byte* values = readable(call_.pages.values, page, call_.types.values, buffers);
      for_each_visible(page, [&](int64_t row, int64_t end_row, int64_t visible) {
        add_values(page, query(row), query(end_row), visible, scores, values, seen);
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
      for (int64_t d = 0; d < dim_; ++d)
        out[d] = seen.sums[q * dim_ + d] / seen.states[q].sum * call_.pages.scales.value;
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

  int64_t queries_in_units() const { return in_units(queries(), shape_.row_unit); }

  /// Calls body(row, end_row, visible) for the rows that see the page, those together that see all of it.
  template <class Body>
  void for_each_visible(int64_t page, Body&& body) const {
    for (int64_t row = rows_.begin, next; row < rows_.end; row = next) {
      const int64_t visible = std::min(kKvPageTokens, segment_.position + row + 1 - page * kKvPageTokens);
      next = visible == kKvPageTokens ? rows_.end : row + 1;
      if (visible > 0) body(row, next, visible);
    }
  }

  static int64_t steps(DType type, int64_t dim) { return type == DType::kFloat32 ? dim : ceil_div(dim, 2); }
  int64_t packed_bytes() const {
    return in_units(steps(call_.types.queries, dim_), shape_.step_unit) *
           call_.kernels.x_step_bytes(call_.types.queries);
  }

  int64_t page_offset(int64_t page) const {
    return kv_head_begin(call_.pages, page_table_[static_cast<size_t>(page)], kv_head_) *
           kv_element_bytes(call_.pages.format);
  }

  /// Keys or values of the page; of FP8, widened to `type` in a buffer that the next call writes over.
  const std::byte* readable(const std::byte* keys_or_values, int64_t page, DType type,
                            Buffers& buffers) const {
    const std::byte* stored = keys_or_values + page_offset(page);
    if (!call_.is_fp8()) return stored;
    auto* widened = buffers.widened.get<std::byte>(kKvPageTokens * dim_ * dtype_bytes(type));
    call_.kernels.widen_weights(WeightFormat::kFp8, type, stored, dim_ / 2, widened);
    return widened;
  }

  /// Keys or values of the page after this one, null after the last. The last tile asks memory for them: it
  /// finds this page's in L1. FP8's, which are fewer bytes than a tile asks for, come without asking.
  const std::byte* next(const std::byte* keys_or_values, int64_t page) const {
    const bool last = page + 1 >= ceil_div(segment_.position + rows_.end, kKvPageTokens);
    return last || call_.is_fp8() ? nullptr : keys_or_values + page_offset(page + 1);
  }

  void score(int64_t page, const std::byte* packed, const std::byte* keys, float* scores) const {
    for_each_tile(queries(), shape_, [&](int64_t begin, int64_t end) {
      call_.kernels.matmul_tile(call_.types.keys,
                                {.x = packed + begin * packed_bytes(),
                                 .weight = keys,
                                 .steps = steps(call_.types.keys, dim_),
                                 .rows = end - begin,
                                 .y = scores + begin * kKvPageTokens,
                                 .y_stride = kKvPageTokens,
                                 .ahead = end == queries() ? next(call_.pages.keys, page) : nullptr});
    });
  }

  void add_values(int64_t page, int64_t begin, int64_t end, int64_t visible, float* scores,
                  const std::byte* values, const Seen& seen) const {
    const float scale = call_.pages.scales.key / std::sqrt(static_cast<float>(dim_));
    call_.kernels.softmax_page(scores + begin * kKvPageTokens, end - begin, visible, scale,
                               seen.states + begin);
    constexpr TileShape kValueTiles{.most_rows = kVectorTileRows};
    for_each_tile(end - begin, kValueTiles, [&](int64_t from, int64_t to) {
      const int64_t first = begin + from, tile_end = begin + to;
      call_.kernels.add_values(call_.types.values,
                               {.values = values,
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
  TileShape shape_;
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
    const UseOfTiles use(call.kernels);
    const QueryBlock& block = blocks[static_cast<size_t>(i)];
    const std::byte* packed = block.pack(buffers);
    const Seen total = buffers.total.get(block.queries(), call.pages.head_dim);
    block.visit(0, packed, buffers, total);
    const Seen stretch = buffers.stretch.get(block.queries(), call.pages.head_dim);
    for (int64_t s = 1; s < block.stretches(); ++s) {
      block.visit(s, packed, buffers, stretch);
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
    const UseOfTiles use(call.kernels);
    const Task& task = tasks[static_cast<size_t>(i)];
    task.block->visit(task.stretch, task.block->pack(buffers), buffers, seen(task));
  });
  for (size_t i = 0; i < tasks.size(); ++i) {
    const Task& task = tasks[i];
    const size_t first = i - static_cast<size_t>(task.stretch);
    if (task.stretch > 0) task.block->merge(task.stretch, seen(task), seen(tasks[first]));
    if (task.stretch + 1 == task.block->stretches()) task.block->write(seen(tasks[first]));
  }
}

}  // namespace

void paged_attention(const Context& context, std::span<const Segment> segments,
                     std::span<const PageTable> page_tables, TensorView<const float> q, int64_t num_heads,
                     const KvPages& pages, TensorView<float> out) {
  check_kv_pages(segments, page_tables, q.rows, pages);
  NEMO_CHECK(num_heads > 0 && num_heads % pages.num_kv_heads == 0, "KV heads do not divide query heads");
  NEMO_CHECK(q.cols == num_heads * pages.head_dim && out.cols == q.cols && out.rows == q.rows,
             "q and out are not [rows, num_heads * head_dim]");
  const Call call{.context = context,
                  .kernels = row_kernels(context.isa),
                  .pages = pages,
                  .types = PageTypes::of(pages, context),
                  .q = q,
                  .out = out,
                  .heads_per_kv = num_heads / pages.num_kv_heads};
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
