#include "kernels/ops/router.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

/// The `count` indices of the largest scores, equal scores to the lower index, in rising order of index.
std::vector<int32_t> largest(const std::vector<float>& score, std::vector<int32_t> candidates,
                             int64_t count) {
  std::partial_sort(candidates.begin(), candidates.begin() + count, candidates.end(),
                    [&](int32_t a, int32_t b) {
                      const float left = score[static_cast<size_t>(a)], right = score[static_cast<size_t>(b)];
                      return left > right || (left == right && a < b);
                    });
  candidates.resize(static_cast<size_t>(count));
  std::sort(candidates.begin(), candidates.end());
  return candidates;
}

/// The experts of the kept groups.
std::vector<int32_t> candidates_of(const std::vector<float>& choice, const RouterShape& shape) {
  std::vector<int32_t> all(static_cast<size_t>(shape.num_experts));
  std::iota(all.begin(), all.end(), 0);
  if (shape.num_kept_groups == shape.num_groups) return all;
  const int64_t width = shape.num_experts / shape.num_groups;
  std::vector<float> group_score(static_cast<size_t>(shape.num_groups));
  for (int64_t g = 0; g < shape.num_groups; ++g) {
    float first = kExcluded, second = kExcluded;
    for (int64_t e = g * width; e < (g + 1) * width; ++e) {
      const float score = choice[static_cast<size_t>(e)];
      second = std::max(second, std::min(first, score));
      first = std::max(first, score);
    }
    const float sum = width == 1 ? first : first + second;
    group_score[static_cast<size_t>(g)] = std::isnan(sum) ? kExcluded : sum;  // of an infinite bias
  }
  std::vector<int32_t> groups(static_cast<size_t>(shape.num_groups));
  std::iota(groups.begin(), groups.end(), 0);
  std::vector<int32_t> kept;
  for (int32_t g : largest(group_score, groups, shape.num_kept_groups))
    kept.insert(kept.end(), all.begin() + g * width, all.begin() + (g + 1) * width);
  return kept;
}

}  // namespace

void route(const Context& context, TensorView<const float> logits, std::span<const float> correction_bias,
           const RouterShape& shape, TensorView<int32_t> expert_ids, TensorView<float> weights) {
  NEMO_CHECK(logits.cols == shape.num_experts, "one logit per expert");
  NEMO_CHECK(static_cast<int64_t>(correction_bias.size()) == shape.num_experts, "one bias per expert");
  NEMO_CHECK(expert_ids.rows == logits.rows && weights.rows == logits.rows, "rows");
  NEMO_CHECK(expert_ids.cols == shape.top_k && weights.cols == shape.top_k, "top_k columns");
  NEMO_CHECK(shape.num_groups >= 1 && shape.num_experts % shape.num_groups == 0 &&
                 shape.num_kept_groups >= 1 && shape.num_kept_groups <= shape.num_groups,
             "groups");
  NEMO_CHECK(shape.top_k <= shape.num_kept_groups * (shape.num_experts / shape.num_groups),
             "top_k exceeds experts");
  const auto sigmoid_row = row_kernels(context.isa).sigmoid;
  for_each_row(context, logits.rows, logits.cols * 16, [&](int64_t i) {
    static thread_local std::vector<float> sigmoid, choice;
    sigmoid.resize(static_cast<size_t>(shape.num_experts));
    choice.resize(sigmoid.size());
    sigmoid_row(logits.row(i), logits.cols, sigmoid.data());
    for (size_t e = 0; e < sigmoid.size(); ++e) {
      choice[e] = sigmoid[e] + correction_bias[e];
      if (std::isnan(choice[e])) choice[e] = kExcluded;
    }
    const std::vector<int32_t> chosen = largest(choice, candidates_of(choice, shape), shape.top_k);
    float sum = 0.0f;
    for (int32_t e : chosen) sum += sigmoid[static_cast<size_t>(e)];
    for (size_t j = 0; j < chosen.size(); ++j) {
      const float s = sigmoid[static_cast<size_t>(chosen[j])];
      expert_ids.row(i)[j] = chosen[j];
      weights.row(i)[j] = (shape.normalize ? s / (sum + 1e-20f) : s) * shape.scaling_factor;
    }
  });
}

}  // namespace nemo::kernels
