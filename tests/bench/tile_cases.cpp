// One tile of a product over and over, its operands in a cache: what is left of the peak where instructions
// wait for them. The whole products show what memory costs beyond that.
#include "kernels/cpu/simd/table.h"
#include "kernels/large_memory.h"
#include "tests/bench/cases.h"
#include "tests/bench/operands.h"

namespace nemo::bench {

namespace {

using namespace kernels;

/// Threads share the tasks; in each a tile is computed so often.
constexpr int64_t kTasks = 8, kRepetitions = 200;

/// Of one task. Aligned as in products; any bytes are right as weights, and zeros are no subnormal numbers.
struct Operands {
  LargeMemory x, weight, y;

  Operands(const RowKernels& kernels, int64_t rows, int64_t k)
      : x(rows * k / 2 * kernels.x_step_bytes(DType::kBFloat16)),
        weight(kBlockColumns * k * 2),
        y(rows * kBlockColumns * 4) {
    const Matrix values(rows, k);
    kernels.pack_x(DType::kBFloat16, 1.0f, values.values.data(), k, rows, k, x.data());
  }
};

Case tile_case(int64_t k, const char* cache) {
  const int64_t rows = row_kernels(detect_isa()).tile_shape(DType::kBFloat16).most_rows;
  auto of_tasks = std::make_shared<std::vector<Operands>>();
  return {.name = "tile of " + std::to_string(rows) + " x 64, k " + std::to_string(k) + ", from " + cache,
          .bf16_flops = 2.0 * static_cast<double>(rows * kBlockColumns * k * kTasks * kRepetitions),
          .run = [of_tasks, rows, k](const Context& context) {
            const RowKernels& kernels = row_kernels(context.isa);
            while (of_tasks->size() < kTasks) of_tasks->emplace_back(kernels, rows, k);
            context.threads.run(kTasks, [&](int64_t task) {
              Operands& mine = (*of_tasks)[static_cast<size_t>(task)];
              const UseOfTiles use(kernels);
              for (int64_t i = 0; i < kRepetitions; ++i)
                kernels.matmul_tile(DType::kBFloat16, {.x = mine.x.data(),
                                                       .weight = mine.weight.data(),
                                                       .steps = k / 2,
                                                       .rows = rows,
                                                       .y = reinterpret_cast<float*>(mine.y.data()),
                                                       .y_stride = kBlockColumns});
            });
          }};
}

}  // namespace

std::vector<Case> tile_cases() {
  return {tile_case(256, "L1"), tile_case(4096, "L2")};
}

}  // namespace nemo::bench
