#include "kernels/ops/tree_sum.h"

#include <algorithm>
#include <bit>
#include <string>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// The level of the node where two neighbouring terms' subtrees meet.
int level_between(const TreeTerm& left, const TreeTerm& right) {
  return std::bit_width(static_cast<uint32_t>(left.position ^ right.position)) - 1;
}

/// Writes the postfix program of one row's terms. Two neighbours meet on some level; a value on the stack
/// waits for its right sibling until a neighbour meets on a higher level, as in a binary counter.
void compile(TensorView<const float> inputs, std::span<const TreeTerm> terms, TreeStep* program) {
  int waiting[32];
  int depth = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    const TreeTerm& term = terms[i];
    NEMO_CHECK(term.input_row >= 0 && term.input_row < inputs.rows, std::to_string(term.input_row));
    program[i] = {inputs.row(term.input_row), term.weight, 0};
    const bool last = i + 1 == terms.size();
    NEMO_CHECK(term.position >= 0 && (last || term.position < terms[i + 1].position), "positions must rise");
    const int next_level = last ? 32 : level_between(term, terms[i + 1]);
    while (depth > 0 && waiting[depth - 1] < next_level) {
      ++program[i].merges;
      --depth;
    }
    waiting[depth++] = next_level;
  }
}

/// The programs of all rows, in the order of their terms. One buffer a calling thread, kept for the next
/// call.
std::span<const TreeStep> compile_all(TensorView<const float> inputs, std::span<const TreeTerm> terms,
                                      std::span<const int64_t> offsets) {
  static thread_local std::vector<TreeStep> programs;
  programs.resize(terms.size());
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const auto begin = static_cast<size_t>(offsets[i]), end = static_cast<size_t>(offsets[i + 1]);
    NEMO_CHECK(begin <= end && end <= terms.size(), "offsets");
    compile(inputs, terms.subspan(begin, end - begin), programs.data() + begin);
  }
  return programs;
}

}  // namespace

void tree_sum(const Context& context, TensorView<const float> inputs, std::span<const TreeTerm> terms,
              std::span<const int64_t> offsets, TensorView<float> outputs) {
  NEMO_CHECK(static_cast<int64_t>(offsets.size()) == outputs.rows + 1, "one offset more than outputs");
  NEMO_CHECK(terms.empty() || inputs.cols == outputs.cols, "columns of inputs and outputs");
  const std::span<const TreeStep> programs = compile_all(inputs, terms, offsets);
  const auto tree_sum_columns = row_kernels(context.isa).tree_sum;
  const int64_t stretches = ceil_div(outputs.cols, kTreeColumns);
  const int64_t terms_per_row = outputs.rows == 0 ? 0 : static_cast<int64_t>(terms.size()) / outputs.rows + 1;
  for_each_row(context, outputs.rows * stretches, kTreeColumns * terms_per_row, [&](int64_t task) {
    const int64_t row = task / stretches, column = task % stretches * kTreeColumns;
    const int64_t count = std::min(kTreeColumns, outputs.cols - column);
    const int64_t begin = offsets[static_cast<size_t>(row)], end = offsets[static_cast<size_t>(row) + 1];
    float* out = outputs.row(row) + column;
    if (begin == end) {
      std::fill_n(out, count, 0.0f);
    } else {
      tree_sum_columns(programs.data() + begin, end - begin, column, count, out);
    }
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
