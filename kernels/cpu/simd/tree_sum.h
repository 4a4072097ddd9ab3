// Runs the postfix program of one tree sum over a stretch of columns.
#pragma once

#include "kernels/cpu/simd/table.h"
#include "kernels/cpu/simd/vector.h"

namespace nemo::kernels {
namespace {

void tree_sum_columns(const TreeStep* steps, int64_t num_steps, int64_t column, int64_t n, float* out) {
  // Positions have 31 bits, and the levels that wait fall strictly: never more than 31 values and the newest.
  alignas(64) float stack[32][kTreeColumns];
  int64_t top = -1;
  for (int64_t s = 0; s < num_steps; ++s) {
    const TreeStep& step = steps[s];
    float* pushed = stack[++top];
    for_each_vector(n, [&](int64_t i, int64_t count) {
      store(pushed + i, load_some(step.input + column + i, count) * step.weight);
    });
    for (int32_t merge = 0; merge < step.merges; ++merge, --top)
      for (int64_t i = 0; i < n; i += kLanes)
        store(stack[top - 1] + i, load(stack[top - 1] + i) + load(stack[top] + i));
  }
  for_each_vector(n, [&](int64_t i, int64_t count) { store_some(out + i, count, load(stack[0] + i)); });
}

}  // namespace
}  // namespace nemo::kernels
