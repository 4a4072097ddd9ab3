// What attention does with one page besides the product of queries and keys, which is a matrix tile.
#pragma once

#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {
namespace {

float softmax_page(float* scores, int64_t visible, float scale, SoftmaxState& state) {
  static_assert(kBlockColumns % kLanes == 0);
  constexpr int kVectors = kBlockColumns / kLanes;
  const float infinity = __builtin_inff();
  Floats s[kVectors];
  Floats best = broadcast(state.max);
  for (int v = 0; v < kVectors; ++v) {
    // A score beyond the sequence's end may be anything: it is replaced, never computed with.
    const Ints shown = lane_index() + v * kLanes < static_cast<int32_t>(visible);
    s[v] = shown ? load(scores + v * kLanes) * scale : broadcast(-infinity);
    best = larger(s[v], best);
  }
  const float max = largest_lane(best);
  Floats sum = {};
  for (int v = 0; v < kVectors; ++v) {
    const Floats weight = exp(s[v] - max);
    store(scores + v * kLanes, weight);
    sum += weight;
  }
  const float shrink = exp(broadcast(state.max - max))[0];
  state.max = max;
  state.sum = state.sum * shrink + sum_of_lanes(sum);
  return shrink;
}

NEMO_INLINE Floats load_value(const float* p, int64_t n) {
  return load_some(p, n);
}
NEMO_INLINE Floats load_value(const uint16_t* p, int64_t n) {
  return n == kLanes ? load_bf16(p) : load_first_bf16(p, n);
}

/// kVectors * kLanes columns of `values` from `column` on; n < kLanes columns if kVectors is 1 and the head
/// ends there.
template <class Value, int kRows, int kVectors>
void add_value_columns(const Value* values, int64_t visible, int64_t head_dim, const float* weights,
                       const float* shrink, float* sums, int64_t column, int64_t n) {
  Floats sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = load_some(sums + r * head_dim + column + v * kLanes, n) * shrink[r];
  for (int64_t j = 0; j < visible; ++j) {
    Floats value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) value[v] = load_value(values + j * head_dim + column + v * kLanes, n);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = multiply_add(broadcast(weights[r * kBlockColumns + j]), value[v], sum[r][v]);
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) store_some(sums + r * head_dim + column + v * kLanes, n, sum[r][v]);
}

template <class Value, int kRows>
void add_value_rows(const Value* values, int64_t visible, int64_t head_dim, const float* weights,
                    const float* shrink, float* sums) {
  constexpr int kVectors = kLanes == 16 ? 4 : 2;
  int64_t column = 0;
  for (; column + kVectors * kLanes <= head_dim; column += kVectors * kLanes)
    add_value_columns<Value, kRows, kVectors>(values, visible, head_dim, weights, shrink, sums, column,
                                              kLanes);
  for (; column < head_dim; column += kLanes)
    add_value_columns<Value, kRows, 1>(values, visible, head_dim, weights, shrink, sums, column,
                                       head_dim - column < kLanes ? head_dim - column : kLanes);
}

template <class Value>
void add_values_of(const void* values, int64_t visible, int64_t head_dim, const float* weights,
                   const float* shrink, int64_t rows, float* sums) {
  static_assert(kTileRows == 6);
  constexpr void (*kByRows[])(const Value*, int64_t, int64_t, const float*, const float*, float*) = {
      add_value_rows<Value, 1>, add_value_rows<Value, 2>, add_value_rows<Value, 3>,
      add_value_rows<Value, 4>, add_value_rows<Value, 5>, add_value_rows<Value, 6>};
  kByRows[rows - 1](static_cast<const Value*>(values), visible, head_dim, weights, shrink, sums);
}

void add_values(DType dtype, const void* values, int64_t visible, int64_t head_dim, const float* weights,
                const float* shrink, int64_t rows, float* sums) {
  if (dtype == DType::kFloat32) {
    add_values_of<float>(values, visible, head_dim, weights, shrink, rows, sums);
  } else {
    add_values_of<uint16_t>(values, visible, head_dim, weights, shrink, rows, sums);
  }
}

}  // namespace
}  // namespace nemo::kernels
