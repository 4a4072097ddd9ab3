#include "kernels/ops/matmul.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/packed_block.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/shape_text.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// Steps of one weight block (256 bytes each) that many tiles of rows run through before the next ones: they
/// stay in L2. A sum interrupted there goes on in y, in fp32, and so has the bits of one that is not.
constexpr int64_t kSegmentSteps = 1024;
constexpr int64_t kStepBytes = kBlockColumns * 4;
/// Steps of 2 k of a quantized block that are widened at once, for all tiles: 64 or 128 KiB, which stay in
/// L2. Fewer would stay in L1, but the sums of a tile go through memory at the end of each piece, which costs
/// more.
constexpr int64_t kWidenSteps = 256;
/// Bytes of weights a task should at least read, and tiles of rows it should at least have if rows are
/// divided.
constexpr int64_t kTaskWeightBytes = 128 << 10;
constexpr int64_t kTaskTiles = 4;

struct RowTile {
  int64_t row_begin = 0;
  int64_t rows = 0;
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
  int64_t blocks_per_task = 0;
  int64_t num_tasks = 0;

  void divide(std::span<const int64_t> offsets, std::span<const PackedMatrix> weights, int64_t num_threads);
};

void Division::divide(std::span<const int64_t> offsets, std::span<const PackedMatrix> weights,
                      int64_t num_threads) {
  tiles.clear();
  groups.clear();
  int64_t column_tasks = 0;
  for (size_t e = 0; e < weights.size(); ++e) {
    const int64_t begin = offsets[e], rows = offsets[e + 1] - begin;
    if (rows == 0 || weights[e].n() == 0) continue;
    const int64_t count = ceil_div(rows, kTileRows);
    const auto tile_begin = static_cast<int64_t>(tiles.size());
    for (int64_t t = 0; t < count; ++t)  // tiles of nearly equal height: 7 rows as 4 + 3 and not 6 + 1
      tiles.push_back({begin + rows * t / count, rows * (t + 1) / count - rows * t / count});
    groups.push_back({.weight = &weights[e], .tile_begin = tile_begin, .tile_end = tile_begin + count});
    const int64_t block_bytes = weights[e].bytes() / groups.back().blocks();
    blocks_per_task = std::max<int64_t>(1, kTaskWeightBytes / std::max<int64_t>(1, block_bytes));
    column_tasks += ceil_div(groups.back().blocks(), blocks_per_task);
  }
  num_tasks = 0;
  for (Group& group : groups) {
    const int64_t wanted =
        std::max<int64_t>(1, 4 * num_threads / column_tasks);  // row chunks per column task
    group.tiles_per_task = std::max(kTaskTiles, ceil_div(group.tiles(), wanted));
    group.task_begin = num_tasks;
    num_tasks += ceil_div(group.blocks(), blocks_per_task) * group.row_chunks();
  }
}

/// The work of one call: every tile of x is packed, then every task runs.
class Product {
 public:
  /// `dtype`: what x is read in.
  Product(TensorView<const float> x, TensorView<float> y, Division& division, const RowKernels& kernels,
          DType dtype)
      : x_(x),
        y_(y),
        division_(division),
        kernels_(kernels),
        dtype_(dtype),
        steps_(dtype == DType::kFloat32 ? x.cols : ceil_div(x.cols, 2)),
        x_step_bytes_(kernels.x_step_bytes(dtype)),
        packed_x_(division.packed_x.get<std::byte>(x.rows * steps_ * x_step_bytes_)) {}

  void pack(const RowTile& tile) const {
    kernels_.pack_x(dtype_, x_.row(tile.row_begin), x_.stride, tile.rows, x_.cols, packed(tile));
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
    for (int64_t block = first_block; block < last_block; ++block) {
      if (is_quantized(group.weight->format())) {
        run_quantized_block(*group.weight, block, tiles);
      } else {
        run_block(*group.weight, block, tiles);
      }
    }
  }

 private:
  std::byte* packed(const RowTile& tile) const { return packed_x_ + tile.row_begin * steps_ * x_step_bytes_; }

  void run_block(const PackedMatrix& weight, int64_t block, std::span<const RowTile> tiles) const {
    const std::byte* data = weight.data() + block * steps_ * kStepBytes;
    for (int64_t step = 0; step < steps_ || step == 0; step += kSegmentSteps)
      run_tiles(tiles, block, step, std::min(kSegmentSteps, steps_ - step), data + step * kStepBytes);
  }

  /// The matrix's scale comes last, upon the finished sums: here and nowhere else.
  void run_quantized_block(const PackedMatrix& weight, int64_t block, std::span<const RowTile> tiles) const {
    static thread_local Scratch widened_of_this_thread;
    const int64_t x_per_step = dtype_ == DType::kFloat32 ? 2 : 1;  // steps of x in one step of 2 k
    const int64_t steps = ceil_div(x_.cols, 2);
    auto* widened = widened_of_this_thread.get<std::byte>(kWidenSteps * x_per_step * kStepBytes);
    const std::byte* data = weight.data() + block * packed_block_bytes(weight.format(), x_.cols);
    for (int64_t step = 0; step < steps || step == 0; step += kWidenSteps) {
      const int64_t count = std::min(kWidenSteps, steps - step);
      kernels_.widen_weights(weight.format(), dtype_, data + packed_block_bytes(weight.format(), 2 * step),
                             count, widened);
      // An odd k ends half a step early where x is floats.
      const int64_t x_step = step * x_per_step;
      run_tiles(tiles, block, x_step, std::min(count * x_per_step, steps_ - x_step), widened);
    }
    for (const RowTile& tile : tiles) scale_tile(tile, block, weight.scale());
  }

  /// Steps [step, step + num_steps) of every tile; `weight` is the first one of them.
  void run_tiles(std::span<const RowTile> tiles, int64_t block, int64_t step, int64_t num_steps,
                 const std::byte* weight) const {
    const int64_t column = block * kBlockColumns;
    for (const RowTile& tile : tiles) {
      kernels_.matmul_tile(dtype_, {.x = packed(tile) + step * tile.rows * x_step_bytes_,
                                    .weight = weight,
                                    .steps = num_steps,
                                    .rows = tile.rows,
                                    .columns = std::min(kBlockColumns, y_.cols - column),
                                    .y = y_.row(tile.row_begin) + column,
                                    .y_stride = y_.stride,
                                    .resume = step > 0});
    }
  }

  void scale_tile(const RowTile& tile, int64_t block, float scale) const {
    const int64_t begin = block * kBlockColumns, end = std::min(begin + kBlockColumns, y_.cols);
    for (int64_t row = tile.row_begin; row < tile.row_begin + tile.rows; ++row)
      for (int64_t column = begin; column < end; ++column) y_.row(row)[column] *= scale;
  }

  TensorView<const float> x_;
  TensorView<float> y_;
  const Division& division_;
  const RowKernels& kernels_;
  DType dtype_;
  int64_t steps_, x_step_bytes_;
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
  division.divide(offsets, weights, context.threads.num_threads());

  const Product product{x, y, division, row_kernels(context.isa), read_type(weights[0], context)};
  for_each_row(context, static_cast<int64_t>(division.tiles.size()), kTileRows * x.cols,
               [&](int64_t tile) { product.pack(division.tiles[static_cast<size_t>(tile)]); });
  context.threads.run(division.num_tasks, [&](int64_t task) { product.run(task); });
}

void add_bias(const Context& context, std::span<const float> bias, TensorView<float> y) {
  NEMO_CHECK(static_cast<int64_t>(bias.size()) == y.cols, "one bias per column");
  const auto add_row = row_kernels(context.isa).add;
  for_each_row(context, y.rows, y.cols, [&](int64_t i) { add_row(bias.data(), y.cols, y.row(i)); });
}

}  // namespace nemo::kernels
