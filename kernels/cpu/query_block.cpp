#include "kernels/cpu/query_block.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/cpu/kv_pages.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_tiles.h"

namespace nemo::kernels {
namespace {

/// Queries of a group, unless one row has more.
constexpr int64_t kMostGroupQueries = 96;

/// A step of keys or values as matmul_tile reads them: a float or a pair of bfloat16 for each column.
constexpr int64_t kStepBytes = kBlockColumns * 4;

int64_t steps(DType type, int64_t k) {
  return type == DType::kFloat32 ? k : ceil_div(k, 2);
}

/// Keys or values as they are stored, a `growth`th of what they are widened to, that tiles ask for while they
/// go through as many others: equal parts, not to ask faster than memory answers.
class Fetching {
 public:
  Fetching(const std::byte* from, int64_t growth, int64_t queries, const TileShape& shape)
      : from_(from), growth_(growth), queries_(queries), tiles_(ceil_div(queries, shape.most_rows)) {}

  int64_t share() const { return tiles_ * growth_; }
  /// What the tile that begins with this query asks for on its way through bytes [begin, begin + bytes).
  const std::byte* part(int64_t query, int64_t begin, int64_t bytes) const {
    return from_ == nullptr ? nullptr : from_ + (begin + query * bytes / queries_) / growth_;
  }

 private:
  const std::byte* from_;
  int64_t growth_, queries_, tiles_;
};

}  // namespace

QueryBlock::QueryBlock(const AttentionCall& call, const Segment& segment, PageTable page_table,
                       const RowBlock& rows, int64_t kv_head)
    : call_(call),
      segment_(segment),
      page_table_(page_table),
      rows_(rows),
      kv_head_(kv_head),
      dim_(call.pages.head_dim),
      stored_dim_(call.stored_dim()),
      shape_(call.kernels.tile_shape(call.packed_type)) {}

int64_t QueryBlock::stretches() const {
  return ceil_div(kv_pages_of(segment_.position + rows_.end), kStretchPages);
}
int64_t QueryBlock::row_of(int64_t query) const {
  return segment_.row_begin + rows_.begin + query / call_.heads_per_kv;
}
int64_t QueryBlock::column_of(int64_t query) const {
  return (kv_head_ * call_.heads_per_kv + query % call_.heads_per_kv) * dim_;
}
/// Of one query, or of the weights that it has for k tokens.
int64_t QueryBlock::packed_bytes(int64_t k) const {
  return in_units(steps(call_.packed_type, k), shape_.step_unit) *
         call_.kernels.x_step_bytes(call_.packed_type);
}

int64_t QueryBlock::first_row(int64_t stretch) const {
  return std::max(rows_.begin, stretch * kStretchTokens - segment_.position);
}

/// Of the keys or values of a page.
int64_t QueryBlock::readable_bytes() const {
  return kKvPageTokens * stored_dim_ * dtype_bytes(call_.page_type);
}

/// How many times their stored bytes that is.
int64_t QueryBlock::growth() const {
  return dtype_bytes(call_.page_type) / kv_element_bytes(call_.pages.format);
}

/// Tokens of the stretch that the row sees.
int64_t QueryBlock::visible(const Stretch& stretch, int64_t row) const {
  return std::clamp<int64_t>(segment_.position + row + 1 - stretch.first_page * kKvPageTokens, 0,
                             kStretchTokens);
}

/// Calls body(begin, end, queries of the groups before it, each in whole units).
template <class Body>
void QueryBlock::for_each_group(Body&& body) const {
  const int64_t heads = call_.heads_per_kv;
  const int64_t rows =
      std::clamp<int64_t>(kMostGroupQueries / heads, 1, std::lcm(heads, shape_.most_rows) / heads);
  const int64_t queries = in_units(queries_of(rows), shape_.row_unit);
  for (int64_t begin = rows_.begin, before = 0; begin < rows_.end; begin += rows, before += queries)
    body(begin, std::min(rows_.end, begin + rows), before);
}

const std::byte* QueryBlock::pack(AttentionBuffers& buffers) const {
  const int64_t bytes = packed_bytes(dim_);
  const int64_t most_groups = rows_.end - rows_.begin;
  auto* packed = buffers.queries.get<std::byte>((queries() + most_groups * shape_.row_unit) * bytes);
  auto* rounded = buffers.rounded.get<float>(shape_.most_rows * dim_);
  for_each_group([&](int64_t begin_row, int64_t end_row, int64_t before) {
    const int64_t first = query(begin_row);
    for_each_tile(query(end_row) - first, shape_, [&](int64_t begin, int64_t end) {
      for (int64_t q = begin; q < end; ++q)
        std::copy_n(call_.q.row(row_of(first + q)) + column_of(first + q), dim_,
                    rounded + (q - begin) * dim_);
      const int64_t rows = end - begin;
      if (call_.context.dtype == DType::kBFloat16) call_.kernels.round_bf16(rounded, rows * dim_);
      call_.kernels.pack_x(call_.packed_type, 1.0f, rounded, dim_, rows, dim_,
                           packed + (before + begin) * bytes);
    });
  });
  return packed;
}

/// Keys or values of a page.
const std::byte* QueryBlock::stored(const std::byte* keys_or_values, int64_t page) const {
  return keys_or_values + kv_head_begin(call_.pages, page_table_[static_cast<size_t>(page)], kv_head_) *
                              kv_element_bytes(call_.pages.format);
}

/// The same; of FP8, widened to the place of that number.
const std::byte* QueryBlock::readable(const std::byte* keys_or_values, int64_t page, Scratch& widened,
                                      int64_t place) const {
  if (!call_.is_fp8()) return stored(keys_or_values, page);
  auto* to = widened.get<std::byte>(kStretchPages * readable_bytes()) + place * readable_bytes();
  call_.kernels.widen_weights(WeightFormat::kFp8, call_.page_type, stored(keys_or_values, page),
                              stored_dim_ / 2, to);
  return to;
}

QueryBlock::Stretch QueryBlock::open(int64_t index, AttentionBuffers& buffers) const {
  const int64_t first = index * kStretchPages, all = kv_pages_of(segment_.position + rows_.end);
  Stretch stretch{.first_page = first,
                  .pages = std::min(kStretchPages, all - first),
                  .keys = {},
                  .values = {},
                  .ahead_of_scores = {},
                  .ahead_of_sums = {}};
  for (int64_t page = 0; page < stretch.pages; ++page) {
    stretch.keys[page] = readable(call_.pages.keys, first + page, buffers.keys, page);
    stretch.values[page] = readable(call_.pages.values, first + page, buffers.values, page);
    if (!call_.is_fp8()) stretch.ahead_of_scores[page] = stretch.values[page];
  }
  for (int64_t page = 0; page < std::min(kStretchPages, all - first - kStretchPages); ++page) {
    const int64_t next = first + kStretchPages + page;
    if (call_.is_fp8()) {
      stretch.ahead_of_scores[page] = stored(call_.pages.keys, next);
      stretch.ahead_of_sums[page] = stored(call_.pages.values, next);
    } else {
      stretch.ahead_of_sums[page] = stored(call_.pages.keys, next);
    }
  }
  return stretch;
}

void QueryBlock::visit(int64_t index, const std::byte* queries, AttentionBuffers& buffers,
                       const Seen& seen) const {
  const Stretch stretch = open(index, buffers);
  for_each_group([&](int64_t begin, int64_t end, int64_t before) {
    const int64_t page_stride = in_units(queries_of(end - begin), shape_.row_unit) * kKvPageTokens;
    const Group group{.begin = begin,
                      .end = end,
                      .queries = queries + before * packed_bytes(dim_),
                      .scores = buffers.scores.get<float>(kStretchPages * page_stride),
                      .page_stride = page_stride,
                      .asks = begin == rows_.begin};
    const Seen by_group = {seen.states + query(begin), seen.sums + query(begin) * stored_dim_};
    score(stretch, group);
    weigh(stretch, group, by_group);
    add_values(stretch, group, buffers, by_group.sums);
  });
}

void QueryBlock::score(const Stretch& stretch, const Group& group) const {
  const int64_t queries = queries_of(group.end - group.begin);
  for (int64_t page = 0; page < stretch.pages; ++page) {
    const Fetching fetching(group.asks ? stretch.ahead_of_scores[page] : nullptr, growth(), queries, shape_);
    for_each_tile(queries, shape_, [&](int64_t begin, int64_t end) {
      call_.kernels.matmul_tile(call_.page_type,
                                {.x = group.queries + begin * packed_bytes(dim_),
                                 .weight = stretch.keys[page],
                                 .steps = steps(call_.page_type, dim_),
                                 .rows = end - begin,
                                 .y = group.scores + page * group.page_stride + begin * kKvPageTokens,
                                 .y_stride = kKvPageTokens,
                                 .ahead = fetching.part(begin, 0, readable_bytes()),
                                 .ahead_share = fetching.share()});
    });
  }
}

void QueryBlock::weigh(const Stretch& stretch, const Group& group, const Seen& seen) const {
  const float scale = call_.pages.scales.key / std::sqrt(static_cast<float>(dim_));
  std::fill_n(seen.states, queries_of(group.end - group.begin), SoftmaxState{});
  for (int64_t row = group.begin; row < group.end; ++row) {
    const int64_t first = queries_of(row - group.begin), tokens = visible(stretch, row);
    if (tokens > 0)
      call_.kernels.softmax_stretch(group.scores + first * kKvPageTokens, group.page_stride,
                                    call_.heads_per_kv, tokens, scale, seen.states + first);
  }
}

/// Rows that see as many whole pages go through these together, and each by itself through its last one.
void QueryBlock::add_values(const Stretch& stretch, const Group& group, AttentionBuffers& buffers,
                            float* sums) const {
  std::fill_n(sums, queries_of(group.end - group.begin) * stored_dim_, 0.0f);
  const auto first = [&](int64_t row) { return queries_of(row - group.begin); };
  for (int64_t row = group.begin, end; row < group.end; row = end) {
    const int64_t whole = visible(stretch, row) / kKvPageTokens;
    for (end = row; end < group.end && visible(stretch, end) / kKvPageTokens == whole;) ++end;
    add_part(stretch, group, {first(row), first(end), 0, whole * kKvPageTokens}, buffers, sums);
    for (int64_t r = row; r < end; ++r)
      add_part(stretch, group, {first(r), first(r + 1), whole, visible(stretch, r) % kKvPageTokens}, buffers,
               sums);
  }
}

void QueryBlock::add_part(const Stretch& stretch, const Group& group, const Part& part,
                          AttentionBuffers& buffers, float* sums) const {
  if (part.tokens == 0) return;
  auto* tile_sums = buffers.tile_sums.get<float>(shape_.most_rows * kBlockColumns);
  const int64_t block_bytes = readable_bytes() / (stored_dim_ / kBlockColumns);
  for_each_tile(part.end - part.begin, shape_, [&](int64_t begin, int64_t end) {
    const int64_t first = part.begin + begin, rows = end - begin;
    const Pieces pieces =
        pack_weights(stretch, group, {first, first + rows, part.page, part.tokens}, buffers);
    for (int64_t block = 0; block < stored_dim_ / kBlockColumns; ++block) {
      for (int64_t i = 0; i < pieces.count; ++i) {
        const Piece& piece = pieces.list[i];
        const bool asks = group.asks && part.page == 0 && i < kStretchPages;
        const Fetching fetching(asks ? stretch.ahead_of_sums[i] : nullptr, growth(), part.end - part.begin,
                                shape_);
        call_.kernels.matmul_tile(call_.page_type,
                                  {.x = piece.weights,
                                   .weight = piece.values + block * piece.block_bytes,
                                   .steps = piece.steps,
                                   .rows = rows,
                                   .y = tile_sums,
                                   .y_stride = kBlockColumns,
                                   .resume = i > 0,
                                   .ahead = fetching.part(begin, block * block_bytes, block_bytes),
                                   .ahead_share = fetching.share()});
      }
      for (int64_t r = 0; r < rows; ++r)
        call_.kernels.add(tile_sums + r * kBlockColumns, kBlockColumns,
                          sums + (first + r) * stored_dim_ + block * kBlockColumns);
    }
  });
}

/// Of a tile. Pages in pairs of tokens, as far as values lie in pairs; a last token without its neighbour by
/// itself.
QueryBlock::Pieces QueryBlock::pack_weights(const Stretch& stretch, const Group& group, const Part& part,
                                            AttentionBuffers& buffers) const {
  const int64_t rows = part.end - part.begin;
  const int64_t page_bytes = in_units(rows, shape_.row_unit) * packed_bytes(kKvPageTokens);
  auto* packed = buffers.weights.get<std::byte>((kStretchPages + 1) * page_bytes);
  const bool odd = call_.page_type == DType::kBFloat16 && part.tokens % 2 != 0;
  const int64_t in_pairs = part.tokens - odd;
  Pieces pieces;
  const auto add = [&](int64_t token, int64_t tokens, const std::byte* values, int64_t block_bytes) {
    const int64_t page = part.page + token / kKvPageTokens;
    call_.kernels.pack_x(
        call_.packed_type, 1.0f,
        group.scores + page * group.page_stride + part.begin * kKvPageTokens + token % kKvPageTokens,
        kKvPageTokens, rows, tokens, packed);
    pieces.list[pieces.count++] = {packed, values, steps(call_.page_type, tokens), block_bytes};
    packed += page_bytes;
  };
  for (int64_t token = 0; token < in_pairs; token += kKvPageTokens)
    add(token, std::min(kKvPageTokens, in_pairs - token), stretch.values[part.page + token / kKvPageTokens],
        readable_bytes() / (stored_dim_ / kBlockColumns));
  if (odd) add(in_pairs, 1, last_token(stretch.values[part.page], in_pairs, buffers.last_token), kStepBytes);
  return pieces;
}

/// The values of a token whose neighbour in its pair may be anything, NaN too: zero, beside it.
const std::byte* QueryBlock::last_token(const std::byte* values, int64_t token, Scratch& alone) const {
  const int64_t blocks = stored_dim_ / kBlockColumns, block_bytes = readable_bytes() / blocks;
  auto* pairs = alone.get<uint32_t>(stored_dim_);
  for (int64_t block = 0; block < blocks; ++block)
    std::memcpy(pairs + block * kBlockColumns, values + block * block_bytes + token / 2 * kStepBytes,
                kStepBytes);
  for (int64_t d = 0; d < stored_dim_; ++d) pairs[d] &= 0xffff;
  return reinterpret_cast<const std::byte*>(pairs);
}

void QueryBlock::merge(int64_t stretch, const Seen& later, const Seen& into) const {
  const int64_t first = query(first_row(stretch));
  call_.kernels.merge_stretches(later.states + first, later.sums + first * stored_dim_, queries() - first,
                                stored_dim_, into.states + first, into.sums + first * stored_dim_);
}

void QueryBlock::write(const Seen& seen) const {
  for (int64_t q = 0; q < queries(); ++q) {
    float* out = call_.out.row(row_of(q)) + column_of(q);
    for (int64_t d = 0; d < dim_; ++d)
      out[d] = seen.sums[q * stored_dim_ + d] / seen.states[q].sum * call_.pages.scales.value;
  }
}

}  // namespace nemo::kernels
