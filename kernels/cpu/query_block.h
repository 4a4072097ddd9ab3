// What one task of attention does: the queries of some rows of a sequence and one KV head, against one
// stretch of the sequence after another. Internal to kernels/cpu.
#pragma once

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/ops/attention.h"

namespace nemo::kernels {

static_assert(kKvPageTokens == kBlockColumns, "the keys of a page are one packed block of a matrix");
static_assert(KvPages::stored_dim(1) == kBlockColumns, "and its values are several");

/// Pages of a stretch. Part of the numerics: every row's keys are visited in stretches, each with a softmax
/// of its own, and the stretches are merged in rising order. So the stretches of a long sequence can be
/// visited by different threads.
inline constexpr int64_t kStretchPages = 8;
inline constexpr int64_t kStretchTokens = kStretchPages * kKvPageTokens;

/// Some rows of one segment.
struct RowBlock {
  size_t segment = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// What queries have seen of one stretch or of several merged ones: sums [queries, stored_dim], not yet
/// divided.
struct Seen {
  SoftmaxState* states = nullptr;
  float* sums = nullptr;
};

struct SeenBuffer {
  Scratch states, sums;
  Seen get(int64_t queries, int64_t stored_dim) {
    return {states.get<SoftmaxState>(queries), sums.get<float>(queries * stored_dim)};
  }
};

/// Of one thread, kept for its next task.
struct AttentionBuffers {
  Scratch queries, rounded, scores, keys, values, weights, last_token, tile_sums;
  SeenBuffer stretch, total;
};

/// What all tasks of one call share.
struct AttentionCall {
  const Context& context;
  const RowKernels& kernels;
  const KvPages& pages;
  DType packed_type;  ///< as which queries and weights are packed
  DType page_type;    ///< as which matmul_tile reads keys and values: as stored, or what FP8 is widened to
  TensorView<const float> q;
  TensorView<float> out;
  int64_t heads_per_kv;

  bool is_fp8() const { return pages.format == KvFormat::kFp8; }
  int64_t stored_dim() const { return KvPages::stored_dim(pages.head_dim); }
};

/// The rows of a block times the heads of one KV head: the queries of one task, heads fastest.
class QueryBlock {
 public:
  QueryBlock(const AttentionCall& call, const Segment& segment, PageTable page_table, const RowBlock& rows,
             int64_t kv_head);

  int64_t queries() const { return (rows_.end - rows_.begin) * call_.heads_per_kv; }
  int64_t stretches() const;  ///< that they see

  /// The queries as matmul_tile reads them.
  const std::byte* pack(AttentionBuffers& buffers) const;

  /// What the queries see of one stretch; of those before it, nothing.
  void visit(int64_t stretch, const std::byte* queries, AttentionBuffers& buffers, const Seen& seen) const;

  /// Adds what the queries have seen of a later stretch.
  void merge(int64_t stretch, const Seen& later, const Seen& into) const;

  /// Divides, and writes the rows of the call's output.
  void write(const Seen& seen) const;

 private:
  /// A stretch under way: its pages, as far as any of the queries sees them.
  struct Stretch {
    int64_t first_page = 0, pages = 0;
    const std::byte *keys[kStretchPages], *values[kStretchPages];
    /// What tiles ask for while they score a page or add its values, or null: that page's values and keys of
    /// the next stretch; of FP8, which is widened before that, keys and values of the next stretch.
    const std::byte *ahead_of_scores[kStretchPages], *ahead_of_sums[kStretchPages];
  };
  /// Rows that go through a stretch together: as few as fill whole tiles, for their scores to stay near.
  struct Group {
    int64_t begin, end;        ///< rows of the segment
    const std::byte* queries;  ///< packed
    float* scores;             ///< [pages, queries in units, kKvPageTokens]; weights, once they are weighed
    int64_t page_stride;
    bool asks;  ///< the first group: it finds keys and values in memory
  };
  /// Some queries of a group, counted in it, and tokens of a stretch that all of them see: of whole pages, or
  /// of one.
  struct Part {
    int64_t begin, end;
    int64_t page;  ///< counted from the stretch's first
    int64_t tokens;
  };
  /// Packed weights and values of a page, or of one token. Blocks of values lie block_bytes apart.
  struct Piece {
    const std::byte* weights;
    const std::byte* values;
    int64_t steps, block_bytes;
  };
  struct Pieces {
    Piece list[kStretchPages + 1];
    int64_t count = 0;
  };

  int64_t queries_of(int64_t rows) const { return rows * call_.heads_per_kv; }
  /// The first query of a row of the segment.
  int64_t query(int64_t row) const { return queries_of(row - rows_.begin); }
  int64_t row_of(int64_t query) const;
  int64_t column_of(int64_t query) const;
  int64_t packed_bytes(int64_t k) const;
  int64_t readable_bytes() const;
  int64_t growth() const;
  /// The first row that sees something of the stretch.
  int64_t first_row(int64_t stretch) const;
  int64_t visible(const Stretch& stretch, int64_t row) const;
  template <class Body>
  void for_each_group(Body&& body) const;

  Stretch open(int64_t index, AttentionBuffers& buffers) const;
  const std::byte* stored(const std::byte* keys_or_values, int64_t page) const;
  const std::byte* readable(const std::byte* keys_or_values, int64_t page, Scratch& widened,
                            int64_t place) const;
  void score(const Stretch& stretch, const Group& group) const;
  void weigh(const Stretch& stretch, const Group& group, const Seen& seen) const;
  void add_values(const Stretch& stretch, const Group& group, AttentionBuffers& buffers, float* sums) const;
  void add_part(const Stretch& stretch, const Group& group, const Part& part, AttentionBuffers& buffers,
                float* sums) const;
  Pieces pack_weights(const Stretch& stretch, const Group& group, const Part& part,
                      AttentionBuffers& buffers) const;
  const std::byte* last_token(const std::byte* values, int64_t token, Scratch& alone) const;

  const AttentionCall& call_;
  const Segment& segment_;
  PageTable page_table_;
  RowBlock rows_;
  int64_t kv_head_, dim_, stored_dim_;
  TileShape shape_;
};

}  // namespace nemo::kernels
