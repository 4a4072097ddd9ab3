#include "kernels/ops/attention.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/kv_pages.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/query_block.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// Queries (rows times heads of one KV head) a task has about: enough to use a page often while it lies in
/// L2.
constexpr int64_t kTaskQueries = 192;
/// Runs of stretches that a thread should have at least, or one would wait for the other.
constexpr int64_t kTasksPerThread = 8;

AttentionCall make_call(const Context& context, TensorView<const float> q, int64_t num_heads,
                        const KvPages& pages, TensorView<float> out) {
  const RowKernels& kernels = row_kernels(context.isa);
  const bool is_fp8 = pages.format == KvFormat::kFp8;
  const DType stored = pages.format == KvFormat::kFloat32 ? DType::kFloat32 : DType::kBFloat16;
  return {.context = context,
          .kernels = kernels,
          .pages = pages,
          .packed_type = is_fp8 ? context.dtype : stored,
          .page_type = is_fp8 ? kernels.widened_type(context.dtype) : stored,
          .q = q,
          .out = out,
          .heads_per_kv = num_heads / pages.num_kv_heads};
}

std::vector<RowBlock> divide_rows(std::span<const Segment> segments, int64_t rows_per_block) {
  std::vector<RowBlock> blocks;
  for (size_t s = 0; s < segments.size(); ++s)
    for (int64_t begin = 0; begin < segments[s].row_count; begin += rows_per_block)
      blocks.push_back({s, begin, std::min(segments[s].row_count, begin + rows_per_block)});
  return blocks;
}

/// A task is a block with all its stretches.
void attend_by_blocks(const AttentionCall& call, std::span<const QueryBlock> blocks) {
  call.context.threads.run(static_cast<int64_t>(blocks.size()), [&](int64_t i) {
    static thread_local AttentionBuffers buffers;
    const UseOfTiles use(call.kernels);
    const QueryBlock& block = blocks[static_cast<size_t>(i)];
    const std::byte* packed = block.pack(buffers);
    const Seen total = buffers.total.get(block.queries(), call.stored_dim());
    block.visit(0, packed, buffers, total);
    const Seen stretch = buffers.stretch.get(block.queries(), call.stored_dim());
    for (int64_t s = 1; s < block.stretches(); ++s) {
      block.visit(s, packed, buffers, stretch);
      block.merge(s, stretch, total);
    }
    block.write(total);
  });
}

/// For few long sequences: a task is a run of stretches, at the price of keeping what is seen of each.
void attend_by_stretches(const AttentionCall& call, std::span<const QueryBlock> blocks) {
  struct Visit {
    const QueryBlock* block;
    int64_t stretch, query;  ///< where what it has seen lies
  };
  std::vector<Visit> visits;
  int64_t queries = 0;
  for (const QueryBlock& block : blocks)
    for (int64_t s = 0; s < block.stretches(); ++s, queries += block.queries())
      visits.push_back({&block, s, queries});
  static thread_local SeenBuffer seen_buffer;
  const Seen all = seen_buffer.get(queries, call.stored_dim());
  const auto seen = [&](const Visit& visit) {
    return Seen{all.states + visit.query, all.sums + visit.query * call.stored_dim()};
  };
  // A stretch asks for the next one's keys: they should be of the same task.
  const auto count = static_cast<int64_t>(visits.size());
  const int64_t run =
      std::max<int64_t>(1, ceil_div(count, kTasksPerThread * call.context.threads.num_threads()));
  call.context.threads.run(ceil_div(count, run), [&](int64_t task) {
    static thread_local AttentionBuffers buffers;
    const UseOfTiles use(call.kernels);
    for (int64_t i = task * run; i < std::min(count, (task + 1) * run); ++i) {
      const Visit& visit = visits[static_cast<size_t>(i)];
      visit.block->visit(visit.stretch, visit.block->pack(buffers), buffers, seen(visit));
    }
  });
  for (size_t i = 0; i < visits.size(); ++i) {
    const Visit& visit = visits[i];
    const size_t first = i - static_cast<size_t>(visit.stretch);
    if (visit.stretch > 0) visit.block->merge(visit.stretch, seen(visit), seen(visits[first]));
    if (visit.stretch + 1 == visit.block->stretches()) visit.block->write(seen(visits[first]));
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
  const AttentionCall call = make_call(context, q, num_heads, pages, out);
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
