// What attention does with one page besides the product of queries and keys, which is a matrix tile, and the
// union of what was seen of two stretches of a sequence.
#pragma once

#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {
namespace {

constexpr int kScoreVectors = kBlockColumns / kLanes;
static_assert(kBlockColumns % kLanes == 0);

NEMO_INLINE void softmax_row(float* scores, float scale, SoftmaxState& state) {
  Floats largest = broadcast(-__builtin_inff());
#pragma GCC unroll 16
  for (int v = 0; v < kScoreVectors; ++v) largest = larger(load(scores + v * kLanes), largest);
  const float page_max = largest_lane(largest) * scale;
  const float max = page_max > state.max ? page_max : state.max;
  Floats sum = {};
#pragma GCC unroll 4
  for (int v = 0; v < kScoreVectors; ++v) {
    const Floats weight =
        exp_of_nonpositive(multiply_add(load(scores + v * kLanes), broadcast(scale), broadcast(-max)));
    store(scores + v * kLanes, weight);
    sum += weight;
  }
  // Most pages do not bring a new maximum, and e^0 is 1.
  state.shrink = max == state.max ? 1.0f : exp_of_nonpositive(broadcast(state.max - max))[0];
  state.max = max;
  state.sum = state.sum * state.shrink + sum_of_lanes(sum);
}

void softmax_page(float* scores, int64_t rows, int64_t visible, float scale, SoftmaxState* states) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * kBlockColumns;
    // A score beyond the sequence's end may be anything: it is replaced, never computed with.
    for (int64_t j = visible; j < kBlockColumns; ++j) row[j] = -__builtin_inff();
    softmax_row(row, scale, states[r]);
  }
}

/// Values of one token a step, or of two that are widened here: as the formats of a matrix tile.
struct Float32Values {
  static constexpr int kTokens = 1;
  static NEMO_INLINE Floats token(Words values, int) { return floats_of(values); }
};
struct Bfloat16Values {
  static constexpr int kTokens = 2;
  static NEMO_INLINE Floats token(Words values, int i) {
    return floats_of(i == 0 ? values << 16 : values & 0xffff0000u);
  }
};

/// kVectors * kLanes columns of the values from `column` on; n < kLanes columns if kVectors is 1 and the head
/// ends there.
template <class Values, int kRows, int kVectors>
void add_value_columns(const ValueTile& tile, int64_t column, int64_t n) {
  const int64_t head_dim = tile.head_dim;
  float* sums = tile.sums + column;
  Floats sum[kRows][kVectors];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = load_some(sums + r * head_dim + v * kLanes, n) * tile.states[r].shrink;
  const auto* values = static_cast<const float*>(tile.values) + column;
  const float* weights = tile.weights;
  const auto* ahead = static_cast<const float*>(tile.ahead != nullptr ? tile.ahead : tile.values) + column;
  const auto add_token = [&](int i) __attribute__((always_inline)) {
    Floats value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      value[v] = Values::token(bits_of(load_some(values + v * kLanes, n)), i);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = multiply_add(broadcast(weights[r * kBlockColumns + i]), value[v], sum[r][v]);
        keep_in_register(sum[r][v]);
      }
  };
  for (int64_t step = tile.visible / Values::kTokens; step > 0; --step) {
    __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 2
    for (int i = 0; i < Values::kTokens; ++i) add_token(i);
    weights += Values::kTokens;
    values += head_dim;
    ahead += head_dim;
  }
  if (tile.visible % Values::kTokens != 0) add_token(0);  // its neighbour may be anything
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store_some(sums + r * head_dim + v * kLanes, n, sum[r][v]);
}

template <class Values, int kRows>
void add_value_rows(const ValueTile& tile) {
  constexpr int kVectors = kLanes == 16 ? 4 : 2;
  int64_t column = 0;
  for (; column + kVectors * kLanes <= tile.head_dim; column += kVectors * kLanes)
    add_value_columns<Values, kRows, kVectors>(tile, column, kLanes);
  for (; column < tile.head_dim; column += kLanes) {
    const int64_t left = tile.head_dim - column;
    add_value_columns<Values, kRows, 1>(tile, column, left < kLanes ? left : kLanes);
  }
}

template <class Values>
void add_values_of(const ValueTile& tile) {
  static_assert(kVectorTileRows == 6);
  constexpr void (*kByRows[])(const ValueTile&) = {add_value_rows<Values, 1>, add_value_rows<Values, 2>,
                                                   add_value_rows<Values, 3>, add_value_rows<Values, 4>,
                                                   add_value_rows<Values, 5>, add_value_rows<Values, 6>};
  kByRows[tile.rows - 1](tile);
}

void add_values(DType dtype, const ValueTile& tile) {
  if (dtype == DType::kFloat32) {
    add_values_of<Float32Values>(tile);
  } else {
    add_values_of<Bfloat16Values>(tile);
  }
}

/// Both stretches are brought to the larger maximum and added.
void merge_stretches(const SoftmaxState* later, const float* later_sums, int64_t rows, int64_t head_dim,
                     SoftmaxState* states, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    const float max = later[r].max > states[r].max ? later[r].max : states[r].max;
    const float shrink = exp_of_nonpositive(broadcast(states[r].max - max))[0];
    const Floats later_shrink = exp_of_nonpositive(broadcast(later[r].max - max));
    states[r].max = max;
    states[r].sum = states[r].sum * shrink + later[r].sum * later_shrink[0];
    for_each_vector(head_dim, [&](int64_t d, int64_t n) {
      float* sum = sums + r * head_dim + d;
      store_some(sum, n,
                 multiply_add(load_some(later_sums + r * head_dim + d, n), later_shrink,
                              load_some(sum, n) * shrink));
    });
  }
}

}  // namespace
}  // namespace nemo::kernels
