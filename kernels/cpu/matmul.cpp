#include "kernels/ops/matmul.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/packed_block.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_tiles.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/shape_text.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// Bytes of a block that all tiles of rows run through before the next ones, unless tiles are few
/// (TileShape::short_piece). Many take them from L2 as fast, and sums are put down and taken up less often.
constexpr int64_t kLongPiece = 128 << 10;
constexpr int64_t kFewTiles = 3;
/// Bytes of weights a task should have at most and tasks a thread should have at least, or one would wait for
/// the other; rows a task should at least and at most have: x and the sums of more rows would leave
/// the caches before the next block of weights comes.
constexpr int64_t kTaskWeightBytes = 2 << 20;
constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kFewestTaskRows = 24;
constexpr int64_t kMostTaskRows = 132;

struct RowTile {
  int64_t row_begin = 0;
  int64_t rows = 0;
  int64_t packed_row = 0;  ///< where its x lies, counted in whole units of rows
};

/// The rows that go through one weight, as tiles [tile_begin, tile_end), and the tasks that do it.
struct Group {
  const PackedMatrix* weight = nullptr;
  int64_t tile_begin = 0;
  int64_t tile_end = 0;
  int64_t task_begin = 0;
  int64_t tiles_per_task = 0;

  int64_t tiles() const { return tile_end - tile_begin; }
  int64_t blocks() const { return ceil_div(weight->n(), kBlockColumns); }
  int64_t row_chunks() const { return ceil_div(tiles(), tiles_per_task); }
};

/// All of one call's work, divided. Buffers are kept for the next call.
struct Division {
  std::vector<RowTile> tiles;
  std::vector<Group> groups;
  Scratch packed_x;
  int64_t packed_rows = 0;  ///< in whole units
  int64_t blocks_per_task = 0;
  int64_t num_tasks = 0;

  void divide(std::span<const int64_t> offsets, std::span<const PackedMatrix> weights, const TileShape& shape,
              int64_t num_threads);
  void add_tiles(int64_t begin, int64_t rows, const TileShape& shape);
};

void Division::add_tiles(int64_t begin, int64_t rows, const TileShape& shape) {
  for_each_tile(rows, shape, [&](int64_t first, int64_t end) {
    tiles.push_back({begin + first, end - first, packed_rows + first});
  });
  packed_rows += in_units(rows, shape.row_unit);
}

void Division::divide(std::span<const int64_t> offsets, std::span<const PackedMatrix> weights,
                      const TileShape& shape, int64_t num_threads) {
  tiles.clear();
  groups.clear();
  packed_rows = 0;
  int64_t blocks = 0, block_bytes = 1;
  for (size_t e = 0; e < weights.size(); ++e) {
    const int64_t begin = offsets[e], rows = offsets[e + 1] - begin;
    if (rows == 0 || weights[e].n() == 0) continue;
    const auto tile_begin = static_cast<int64_t>(tiles.size());
    add_tiles(begin, rows, shape);
    groups.push_back(
        {.weight = &weights[e], .tile_begin = tile_begin, .tile_end = static_cast<int64_t>(tiles.size())});
    blocks += groups.back().blocks();
    block_bytes = std::max<int64_t>(1, weights[e].bytes() / groups.back().blocks());
  }
  const int64_t wanted_tasks = kTasksPerThread * num_threads;
  blocks_per_task = std::max<int64_t>(1, std::min(kTaskWeightBytes / block_bytes, blocks / wanted_tasks));
  if (tiles.size() == 1 && tiles[0].rows == 1) {  // every task with all its streams
    const int64_t fewest = std::clamp<int64_t>(blocks / num_threads, 1, shape.streams);
    blocks_per_task = std::max(fewest, blocks_per_task / shape.streams * shape.streams);
  }
  const int64_t wanted_chunks =
      std::max<int64_t>(1, wanted_tasks * blocks_per_task / std::max<int64_t>(1, blocks));
  num_tasks = 0;
  for (Group& group : groups) {
    group.tiles_per_task =
        std::clamp(ceil_div(group.tiles(), wanted_chunks), ceil_div(kFewestTaskRows, shape.most_rows),
                   kMostTaskRows / shape.most_rows);
    group.task_begin = num_tasks;
    num_tasks += ceil_div(group.blocks(), blocks_per_task) * group.row_chunks();
  }
}

/// The work of one call: every tile of x is packed, then every task runs.
class Product {
 public:
  /// `dtype`: what x is read in, for weights of `format`.
  Product(TensorView<const float> x, TensorView<float> y, Division& division, const RowKernels& kernels,
          WeightFormat format, DType dtype)
      : x_(x),
        y_(y),
        division_(division),
        kernels_(kernels),
        dtype_(dtype),
        shape_(kernels.tile_shape(dtype)),
        x_unit_(kernels.x_unit(format, dtype)),
        row_bytes_(in_units(x_steps(dtype, x.cols), shape_.step_unit) * kernels.x_step_bytes(dtype)),
        packed_x_(division.packed_x.get<std::byte>(division.packed_rows * row_bytes_)) {}

  void pack(const RowTile& tile) const {
    kernels_.pack_x(dtype_, x_unit_, x_.row(tile.row_begin), x_.stride, tile.rows, x_.cols, packed(tile));
  }

  void run(int64_t task) const {
    const auto after = std::upper_bound(division_.groups.begin(), division_.groups.end(), task,
                                        [](int64_t t, const Group& group) { return t < group.task_begin; });
    const Group& group = *(after - 1);
    const int64_t chunk = (task - group.task_begin) % group.row_chunks();
    const int64_t first_block = (task - group.task_begin) / group.row_chunks() * division_.blocks_per_task;
    const int64_t tile_begin = group.tile_begin + chunk * group.tiles_per_task;
    const int64_t tile_end = std::min(group.tile_end, tile_begin + group.tiles_per_task);
    const std::span<const RowTile> tiles(&division_.tiles[static_cast<size_t>(tile_begin)],
                                         static_cast<size_t>(tile_end - tile_begin));
    const int64_t last_block = std::min(group.blocks(), first_block + division_.blocks_per_task);
    const bool one_row = tiles.size() == 1 && tiles[0].rows == 1;
    const int64_t batch = one_row && !is_quantized(group.weight->format()) ? shape_.streams : 1;
    const UseOfTiles use(kernels_);
    for (int64_t block = first_block; block < last_block; block += batch)
      run_blocks(*group.weight, block, std::min(batch, last_block - block), tiles);
  }

 private:
  /// A step is one k of floats or two of bfloat16.
  static int64_t x_steps(DType dtype, int64_t k) { return dtype == DType::kFloat32 ? k : ceil_div(k, 2); }

  std::byte* packed(const RowTile& tile) const { return packed_x_ + tile.packed_row * row_bytes_; }

  /// Whether quantized weights are widened in pieces first, for many rows at once. A tile of float32 x may
  /// have no exponent to spare for the unit of e2m1.
  bool widens_ahead(const PackedMatrix& weight, std::span<const RowTile> tiles) const {
    return is_quantized(weight.format()) &&
           (rows_of(tiles) > kernels_.quantized_rows || dtype_ == DType::kFloat32);
  }

  /// Sums are kept in a buffer of this thread, 64 columns a row, from piece to piece of k.
  void run_blocks(const PackedMatrix& weight, int64_t block, int64_t count,
                  std::span<const RowTile> tiles) const {
    static thread_local Scratch sums_of_this_thread;
    const int64_t block_sums = in_units(rows_of(tiles), shape_.row_unit) * kBlockColumns;
    auto* sums = sums_of_this_thread.get<float>(count * block_sums);
    if (x_.cols == 0) std::fill_n(sums, count * block_sums, 0.0f);
    const std::byte* data = weight.data() + block * packed_block_bytes(weight.format(), x_.cols);
    if (widens_ahead(weight, tiles)) {
      run_widened(weight.format(), data, tiles, sums);
    } else {
      run_stored(weight.format(), data, count, tiles, sums);
    }
    for (int64_t b = 0; b < count; ++b) store_scaled(tiles, block + b, weight.scale(), sums + b * block_sums);
  }

  static int64_t rows_of(std::span<const RowTile> tiles) {
    return tiles.back().row_begin + tiles.back().rows - tiles.front().row_begin;
  }

  /// k of a piece of weights, in whole groups of them and whole units of steps.
  int64_t piece_k(WeightFormat format, std::span<const RowTile> tiles) const {
    const int64_t bytes = static_cast<int64_t>(tiles.size()) <= kFewTiles ? shape_.short_piece : kLongPiece;
    const int64_t unit = std::max(kNvfp4Block, 2 * shape_.step_unit);
    return bytes / packed_block_bytes(format, unit) * unit;
  }

  /// Weights of `blocks` blocks as they lie in memory.
  void run_stored(WeightFormat format, const std::byte* data, int64_t blocks, std::span<const RowTile> tiles,
                  float* sums) const {
    const bool one_stream = tiles.size() == 1 && shape_.stream_ahead > 0;
    const int64_t piece = blocks > 1 || one_stream ? x_.cols : piece_k(format, tiles);
    for (int64_t k = 0; k < x_.cols; k += piece) {
      const int64_t count = std::min(piece, x_.cols - k);
      const std::byte* weight = data + packed_block_bytes(format, k);
      const int64_t distance = one_stream ? shape_.stream_ahead : packed_block_bytes(format, count);
      const std::byte* ahead = blocks > 1 ? nullptr : weight + distance;
      run_tiles(format, tiles, {k, count}, weight, {ahead}, sums, blocks);
    }
  }

  /// Pieces of weights, widened first.
  void run_widened(WeightFormat format, const std::byte* data, std::span<const RowTile> tiles,
                   float* sums) const {
    static thread_local Scratch widened_of_this_thread;
    auto* widened = widened_of_this_thread.get<std::byte>(kLongPiece);
    const DType type = kernels_.widened_type(dtype_);
    const int64_t piece = piece_k(weight_format(type), tiles);
    const int64_t growth = packed_block_bytes(weight_format(type), piece) / packed_block_bytes(format, piece);
    for (int64_t k = 0; k < x_.cols; k += piece) {
      const int64_t count = std::min(piece, x_.cols - k);
      kernels_.widen_weights(format, dtype_, data + packed_block_bytes(format, k), ceil_div(count, 2),
                             widened);
      const std::byte* ahead = data + packed_block_bytes(format, k + count);
      run_tiles(weight_format(type), tiles, {k, count}, widened, {ahead, growth}, sums);
    }
  }

  /// Input columns [begin, begin + count).
  struct Piece {
    int64_t begin = 0, count = 0;
  };

  /// The piece of weights after this one, in memory: null or of 1 / share of its bytes.
  struct Ahead {
    const std::byte* data = nullptr;
    int64_t share = 1;
  };

  /// A piece of every tile; `weight` is the first of its weights, in `format`. Few tiles ask in turn for
  /// parts of what lies ahead: memory is to be as busy as they are, all the time. Of many the last few do.
  void run_tiles(WeightFormat format, std::span<const RowTile> tiles, Piece piece, const std::byte* weight,
                 Ahead ahead, float* sums, int64_t blocks = 1) const {
    const DType type = is_quantized(format)                ? kernels_.widened_type(dtype_)
                       : format == WeightFormat::kBFloat16 ? DType::kBFloat16
                                                           : DType::kFloat32;
    const int64_t fetching = std::min(static_cast<int64_t>(tiles.size()), kFewTiles);
    const RowTile* first_fetching = tiles.data() + tiles.size() - fetching;
    ahead.share *= fetching;
    // x in bfloat16 is padded to pairs, also where it is read in float32.
    const int64_t padded = dtype_ == DType::kBFloat16 ? ceil_div(piece.count, 2) * 2 : piece.count;
    for (const RowTile& tile : tiles) {
      const MatmulTile operands{.x = packed(tile) + x_steps(type, piece.begin) *
                                                        in_units(tile.rows, shape_.row_unit) *
                                                        kernels_.x_step_bytes(type),
                                .weight = weight,
                                .steps = x_steps(type, padded),
                                .rows = tile.rows,
                                .y = sums,
                                .y_stride = kBlockColumns,
                                .resume = piece.begin > 0,
                                .blocks = blocks,
                                .block_bytes = packed_block_bytes(format, x_.cols),
                                .ahead = &tile >= first_fetching ? ahead.data : nullptr,
                                .ahead_share = ahead.share};
      if (is_quantized(format)) {
        kernels_.quantized_tile(format, operands);
      } else {
        kernels_.matmul_tile(type, operands);
      }
      sums += tile.rows * kBlockColumns;
      if (operands.ahead != nullptr) ahead.data += packed_block_bytes(format, piece.count) / ahead.share;
    }
  }

  /// The matrix's scale comes last, upon the finished sums: here and nowhere else. Adding zero makes 0 of -0,
  /// which a sum becomes by underflow: e2m1 is widened without its -0, and the bits must not tell.
  void store_scaled(std::span<const RowTile> tiles, int64_t block, float scale, const float* sums) const {
    const int64_t begin = block * kBlockColumns, columns = std::min(kBlockColumns, y_.cols - begin);
    const int64_t end_row = tiles.back().row_begin + tiles.back().rows;
    for (int64_t row = tiles.front().row_begin; row < end_row; ++row, sums += kBlockColumns)
      for (int64_t column = 0; column < columns; ++column)
        y_.row(row)[begin + column] = sums[column] * scale + 0.0f;
  }

  TensorView<const float> x_;
  TensorView<float> y_;
  const Division& division_;
  const RowKernels& kernels_;
  DType dtype_;
  TileShape shape_;
  float x_unit_;
  int64_t row_bytes_;
  std::byte* packed_x_;
};

/// What x is read in.
DType read_type(const PackedMatrix& weight, const Context& context) {
  if (is_quantized(weight.format())) return context.dtype;
  return weight.format() == WeightFormat::kFloat32 ? DType::kFloat32 : DType::kBFloat16;
}

void check_shapes(TensorView<const float> x, std::span<const int64_t> offsets,
                  std::span<const PackedMatrix> weights, TensorView<float> y) {
  NEMO_CHECK(x.rows == y.rows, shape_text(x).append(" to ").append(shape_text(y)));
  NEMO_CHECK(offsets.size() == weights.size() + 1, "one offset more than weights");
  NEMO_CHECK(offsets.front() >= 0 && offsets.back() <= x.rows, "offsets outside of x");
  for (size_t e = 0; e < weights.size(); ++e) {
    NEMO_CHECK(offsets[e] <= offsets[e + 1], "offsets fall");
    NEMO_CHECK(
        weights[e].k() == x.cols && weights[e].n() == y.cols && weights[e].format() == weights[0].format(),
        shape_text(x)
            .append(" through ")
            .append(shape_text(weights[e].n(), weights[e].k()))
            .append(" to ")
            .append(shape_text(y)));
  }
}

}  // namespace

void matmul(const Context& context, TensorView<const float> x, const PackedMatrix& weight,
            TensorView<float> y) {
  const int64_t offsets[] = {0, x.rows};
  matmul_grouped(context, x, offsets, {&weight, 1}, y);
}

void matmul_grouped(const Context& context, TensorView<const float> x, std::span<const int64_t> offsets,
                    std::span<const PackedMatrix> weights, TensorView<float> y) {
  check_shapes(x, offsets, weights, y);
  if (weights.empty() || x.rows == 0) return;
  static thread_local Division division_of_this_thread;
  Division& division = division_of_this_thread;
  const RowKernels& kernels = row_kernels(context.isa);
  const DType dtype = read_type(weights[0], context);
  const TileShape shape = kernels.tile_shape(dtype);
  division.divide(offsets, weights, shape, context.threads.num_threads());

  const Product product{x, y, division, kernels, weights[0].format(), dtype};
  for_each_row(context, static_cast<int64_t>(division.tiles.size()), shape.most_rows * x.cols,
               [&](int64_t tile) { product.pack(division.tiles[static_cast<size_t>(tile)]); });
  context.threads.run(division.num_tasks, [&](int64_t task) { product.run(task); });
}

void add_bias(const Context& context, std::span<const float> bias, TensorView<float> y) {
  NEMO_CHECK(static_cast<int64_t>(bias.size()) == y.cols, "one bias per column");
  const auto add_row = row_kernels(context.isa).add;
  for_each_row(context, y.rows, y.cols, [&](int64_t i) { add_row(bias.data(), y.cols, y.row(i)); });
}

}  // namespace nemo::kernels
