// What attention does besides the products with keys and with values, which are matrix tiles: softmax of the
// scores of one stretch of a sequence, and the union of what was seen of two.
#pragma once

#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {
namespace {

constexpr int kScoreVectors = kBlockColumns / kLanes;
static_assert(kBlockColumns % kLanes == 0);

/// Calls body(vector of scores, accumulator's number) for all of a row; more accumulators than one, because
/// each waits for its last sum.
constexpr int kAccumulators = 4;
template <class Body>
NEMO_INLINE void for_each_score(float* row, int64_t page_stride, int64_t pages, Body&& body) {
  for (int64_t page = 0; page < pages; ++page, row += page_stride)
#pragma GCC unroll 4
    for (int v = 0; v < kScoreVectors; ++v) body(row + v * kLanes, v % kAccumulators);
}

NEMO_INLINE void softmax_row(float* row, int64_t page_stride, int64_t pages, float scale,
                             SoftmaxState& state) {
  Floats largest[kAccumulators], sum[kAccumulators] = {};
  for (Floats& part : largest) part = broadcast(-__builtin_inff());
  for_each_score(
      row, page_stride, pages, [&](const float* scores, int i) __attribute__((always_inline)) {
        largest[i] = larger(load(scores), largest[i]);
      });
  const float max =
      largest_lane(larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]))) * scale;
  for_each_score(
      row, page_stride, pages, [&](float* scores, int i) __attribute__((always_inline)) {
        const Floats weight =
            exp_of_nonpositive(multiply_add(load(scores), broadcast(scale), broadcast(-max)));
        store(scores, weight);
        sum[i] += weight;
      });
  state.max = max;
  state.sum = sum_of_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

void softmax_stretch(float* scores, int64_t page_stride, int64_t rows, int64_t visible, float scale,
                     SoftmaxState* states) {
  const int64_t pages = (visible + kBlockColumns - 1) / kBlockColumns;
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * kBlockColumns;
    // A score beyond the sequence's end may be anything: it is replaced, never computed with.
    float* last_page = row + (pages - 1) * page_stride;
    for (int64_t j = visible - (pages - 1) * kBlockColumns; j < kBlockColumns; ++j)
      last_page[j] = -__builtin_inff();
    softmax_row(row, page_stride, pages, scale, states[r]);
  }
}

/// Both stretches are brought to the larger maximum and added.
void merge_stretches(const SoftmaxState* later, const float* later_sums, int64_t rows, int64_t columns,
                     SoftmaxState* states, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    const float max = later[r].max > states[r].max ? later[r].max : states[r].max;
    const float shrink = exp_of_nonpositive(broadcast(states[r].max - max))[0];
    const Floats later_shrink = exp_of_nonpositive(broadcast(later[r].max - max));
    states[r].max = max;
    states[r].sum = states[r].sum * shrink + later[r].sum * later_shrink[0];
    for_each_vector(columns, [&](int64_t d, int64_t n) {
      float* sum = sums + r * columns + d;
      store_some(
          sum, n,
          multiply_add(load_some(later_sums + r * columns + d, n), later_shrink, load_some(sum, n) * shrink));
    });
  }
}

}  // namespace
}  // namespace nemo::kernels
