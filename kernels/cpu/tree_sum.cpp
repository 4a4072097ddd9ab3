#include "kernels/ops/tree_sum.h"

#include <algorithm>
#include <bit>

#include "kernels/error.h"

namespace nemo::kernels {
namespace {

float sum_of(TensorView<const float> inputs, std::span<const TreeTerm> terms, int64_t column) {
  if (terms.size() == 1) return terms[0].weight * inputs.row(terms[0].input_row)[column];
  const auto differing = static_cast<uint32_t>(terms.front().position ^ terms.back().position);
  const uint32_t bit = std::bit_floor(differing);
  const auto middle = std::find_if(terms.begin(), terms.end(), [bit](const TreeTerm& term) {
    return (static_cast<uint32_t>(term.position) & bit) != 0;
  });
  const auto split = static_cast<size_t>(middle - terms.begin());
  return sum_of(inputs, terms.first(split), column) + sum_of(inputs, terms.subspan(split), column);
}

}  // namespace

void tree_sum(const Context& context, TensorView<const float> inputs, std::span<const TreeTerm> terms,
              std::span<const int64_t> offsets, TensorView<float> outputs) {
  NEMO_CHECK(static_cast<int64_t>(offsets.size()) == outputs.rows + 1, "one offset more than outputs");
  NEMO_CHECK(terms.empty() || inputs.cols == outputs.cols, "columns");
  context.threads.run(outputs.rows, [&](int64_t i) {
    const auto begin = static_cast<size_t>(offsets[static_cast<size_t>(i)]);
    const auto row = terms.subspan(begin, static_cast<size_t>(offsets[static_cast<size_t>(i) + 1]) - begin);
    for (int64_t j = 0; j < outputs.cols; ++j)
      outputs.row(i)[j] = row.empty() ? 0.0f : sum_of(inputs, row, j);
  });
}

std::vector<ExpertRange> maximal_subtrees(ExpertRange block, int64_t num_experts) {
  NEMO_CHECK(0 <= block.begin && block.begin <= block.end && block.end <= num_experts, "block of experts");
  const auto leaves = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(num_experts)));
  const int64_t end = block.end == num_experts ? leaves : block.end;
  std::vector<ExpertRange> ranges;
  for (int64_t at = block.begin; at < block.end;) {
    int64_t width = at == 0 ? leaves : at & -at;
    while (at + width > end) width /= 2;
    ranges.push_back({at, std::min(at + width, block.end)});
    at += width;
  }
  return ranges;
}

}  // namespace nemo::kernels
