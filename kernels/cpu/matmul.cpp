#include "kernels/ops/matmul.h"

#include <algorithm>
#include <vector>

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

void check_shapes(TensorView<const float> x, std::span<const int64_t> offsets,
                  std::span<const PackedMatrix> weights, TensorView<float> y) {
  NEMO_CHECK(x.rows == y.rows, shape_text(x).append(" to ").append(shape_text(y)));
  NEMO_CHECK(offsets.size() == weights.size() + 1, "one offset more than weights");
  NEMO_CHECK(offsets.front() >= 0 && offsets.back() <= x.rows, "offsets outside of x");
  for (size_t e = 0; e < weights.size(); ++e) {
    NEMO_CHECK(offsets[e] <= offsets[e + 1], "offsets fall");
    NEMO_CHECK(
        weights[e].k() == x.cols && weights[e].n() == y.cols && weights[e].dtype() == weights[0].dtype(),
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

  const RowKernels& kernels = row_kernels(context.isa);
  const DType dtype = weights[0].dtype();
  const int64_t steps = dtype == DType::kFloat32 ? x.cols : ceil_div(x.cols, 2);
  const int64_t x_step_bytes = kernels.x_step_bytes(dtype), x_row_bytes = steps * x_step_bytes;
  std::byte* const packed_x = division.packed_x.get<std::byte>(x.rows * x_row_bytes);
  for_each_row(context, static_cast<int64_t>(division.tiles.size()), kTileRows * x.cols, [&](int64_t t) {
    const RowTile& tile = division.tiles[static_cast<size_t>(t)];
    kernels.pack_x(dtype, x.row(tile.row_begin), x.stride, tile.rows, x.cols,
                   packed_x + tile.row_begin * x_row_bytes);
  });

  context.threads.run(division.num_tasks, [&](int64_t task) {
    const auto after = std::upper_bound(division.groups.begin(), division.groups.end(), task,
                                        [](int64_t t, const Group& group) { return t < group.task_begin; });
    const Group& group = *(after - 1);
    const int64_t chunk = (task - group.task_begin) % group.row_chunks();
    const int64_t first_block = (task - group.task_begin) / group.row_chunks() * division.blocks_per_task;
    const int64_t tile_begin = group.tile_begin + chunk * group.tiles_per_task;
    const int64_t tile_end = std::min(group.tile_end, tile_begin + group.tiles_per_task);
    for (int64_t block = first_block;
         block < std::min(group.blocks(), first_block + division.blocks_per_task); ++block) {
      const std::byte* weight = group.weight->data() + block * steps * kBlockColumns * 4;
      const int64_t column = block * kBlockColumns;
      for (int64_t step = 0; step < steps || step == 0; step += kSegmentSteps) {
        for (int64_t t = tile_begin; t < tile_end; ++t) {
          const RowTile& tile = division.tiles[static_cast<size_t>(t)];
          kernels.matmul_tile(dtype,
                              {.x = packed_x + tile.row_begin * x_row_bytes + step * tile.rows * x_step_bytes,
                               .weight = weight + step * kBlockColumns * 4,
                               .steps = std::min(kSegmentSteps, steps - step),
                               .rows = tile.rows,
                               .columns = std::min(kBlockColumns, y.cols - column),
                               .y = y.row(tile.row_begin) + column,
                               .y_stride = y.stride,
                               .resume = step > 0});
        }
      }
    }
  });
}

void add_bias(const Context& context, std::span<const float> bias, TensorView<float> y) {
  NEMO_CHECK(static_cast<int64_t>(bias.size()) == y.cols, "one bias per column");
  const auto add_row = row_kernels(context.isa).add;
  for_each_row(context, y.rows, y.cols, [&](int64_t i) { add_row(bias.data(), y.cols, y.row(i)); });
}

}  // namespace nemo::kernels
