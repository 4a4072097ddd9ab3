#include "kernels/ops/tree_sum.h"

#include "kernels/error.h"
#include "tests/kernels/row_purity.h"

namespace nemo::kernels {
namespace {

/// The definition: the subtree of `width` leaves from `begin` on, absent sides skipped.
bool subtree(const std::vector<TreeTerm>& terms, const Matrix& inputs, int64_t column, int64_t begin,
             int64_t width, float& value) {
  for (const TreeTerm& term : terms)
    if (term.position == begin && (width == 1 || term.weight == 1.0f)) {
      bool inside = false;  // a root stands for its whole subtree: no other term lies in it
      for (const TreeTerm& other : terms) inside |= other.position > begin && other.position < begin + width;
      if (!inside) {
        value = term.weight * inputs(term.input_row, column);
        return true;
      }
    }
  if (width == 1) return false;
  float left = 0, right = 0;
  const bool has_left = subtree(terms, inputs, column, begin, width / 2, left);
  const bool has_right = subtree(terms, inputs, column, begin + width / 2, width / 2, right);
  value = has_left && has_right ? left + right : has_left ? left : right;
  return has_left || has_right;
}

class TreeSumTest : public KernelTest {
 protected:
  std::vector<TreeTerm> random_terms(int64_t num_experts, double density, int64_t num_inputs) {
    std::vector<TreeTerm> terms;
    std::bernoulli_distribution chosen(density);
    std::uniform_int_distribution<int32_t> row(0, static_cast<int32_t>(num_inputs) - 1);
    std::uniform_real_distribution<float> weight(0.1f, 0.9f);
    for (int32_t e = 0; e < num_experts; ++e)
      if (chosen(random_)) terms.push_back({e, row(random_), weight(random_)});
    return terms;
  }
  Matrix sum(const Matrix& inputs, const std::vector<std::vector<TreeTerm>>& rows) {
    std::vector<TreeTerm> terms;
    std::vector<int64_t> offsets = {0};
    for (const auto& row : rows) {
      terms.insert(terms.end(), row.begin(), row.end());
      offsets.push_back(static_cast<int64_t>(terms.size()));
    }
    Matrix outputs(static_cast<int64_t>(rows.size()), inputs.cols());
    tree_sum(context(DType::kBFloat16), inputs.view(), terms, offsets, outputs.view());
    EXPECT_TRUE(outputs.intact());
    return outputs;
  }
};

TEST_P(TreeSumTest, EqualsTheRecursiveDefinitionToTheBit) {
  const int64_t width = 301, experts = 512;
  Matrix inputs = random_matrix(random_, 40, width);
  const float adversarial[] = {1e20f, 1.0f, -1e20f, 3.0f};
  for (int64_t i = 0; i < 20; ++i)
    for (int64_t j = 0; j < width; ++j) inputs(i, j) = adversarial[static_cast<size_t>(i + j) % 4];
  std::vector<std::vector<TreeTerm>> rows = {{}, {{7, 3, 0.5f}}, {{0, 1, 0.25f}, {511, 2, 0.75f}}};
  for (double density : {0.01, 0.05, 0.3, 1.0}) rows.push_back(random_terms(experts, density, 40));
  const Matrix outputs = sum(inputs, rows);
  for (size_t i = 0; i < rows.size(); ++i)
    for (int64_t j = 0; j < width; ++j) {
      float want = 0;
      subtree(rows[i], inputs, j, 0, experts, want);
      ASSERT_EQ(std::bit_cast<uint32_t>(outputs(static_cast<int64_t>(i), j)), std::bit_cast<uint32_t>(want))
          << "row " << i << ", column " << j;
    }
}

TEST_P(TreeSumTest, AnySplitIntoBlocksGivesTheSameBits) {
  const int64_t width = 70;
  for (int64_t experts : {8, 100, 128}) {
    const Matrix inputs = random_matrix(random_, 30, width, 1e3f);
    const std::vector<TreeTerm> terms = random_terms(experts, 0.4, 30);
    const Matrix whole = sum(inputs, {terms});
    for (int64_t ranks : {1, 2, 3, 4, 5, 7, 8}) {
      std::vector<std::vector<TreeTerm>> parts;
      std::vector<TreeTerm> roots;
      for (int64_t r = 0; r < ranks; ++r)
        for (const ExpertRange& range :
             maximal_subtrees({experts * r / ranks, experts * (r + 1) / ranks}, experts)) {
          std::vector<TreeTerm> part;
          for (const TreeTerm& term : terms)
            if (term.position >= range.begin && term.position < range.end) part.push_back(term);
          if (part.empty()) continue;
          roots.push_back({static_cast<int32_t>(range.begin), static_cast<int32_t>(parts.size()), 1.0f});
          parts.push_back(std::move(part));
        }
      const Matrix total = sum(sum(inputs, parts), {roots});
      ASSERT_TRUE(same_bits(total.row(0), whole.row(0), width))
          << experts << " experts on " << ranks << " ranks";
    }
  }
}

TEST_P(TreeSumTest, IsRowPure) {
  const std::vector<TreeTerm> terms = random_terms(64, 0.3, 1);
  const RowOp op = [&](std::vector<Matrix>& in, Matrix& y) {
    std::vector<TreeTerm> all;
    std::vector<int64_t> offsets = {0};
    for (int32_t i = 0; i < in[0].rows(); ++i) {
      for (TreeTerm term : terms) {
        term.input_row = i;
        all.push_back(term);
      }
      offsets.push_back(static_cast<int64_t>(all.size()));
    }
    tree_sum(context(DType::kFloat32), in[0].view(), all, offsets, y.view());
  };
  expect_row_pure(op, {random_matrix(random_, 9, 1100)}, 1100);
}

TEST_P(TreeSumTest, RefusesUnsortedTerms) {
  const Matrix inputs = random_matrix(random_, 2, 4);
  EXPECT_THROW(sum(inputs, {{{3, 0, 1.0f}, {3, 1, 1.0f}}}), Error);
  EXPECT_THROW(sum(inputs, {{{3, 2, 1.0f}}}), Error);
}

NEMO_INSTANTIATE(TreeSumTest);

using Ranges = std::vector<ExpertRange>;

TEST(MaximalSubtrees, AreAlignedPowersOfTwo) {
  EXPECT_EQ(maximal_subtrees({0, 8}, 8), (Ranges{{0, 8}}));
  EXPECT_EQ(maximal_subtrees({4, 8}, 8), (Ranges{{4, 8}}));
  EXPECT_EQ(maximal_subtrees({3, 8}, 8), (Ranges{{3, 4}, {4, 8}}));
  EXPECT_EQ(maximal_subtrees({1, 7}, 8), (Ranges{{1, 2}, {2, 4}, {4, 6}, {6, 7}}));
  EXPECT_EQ(maximal_subtrees({0, 5}, 8), (Ranges{{0, 4}, {4, 5}}));
  EXPECT_EQ(maximal_subtrees({3, 3}, 8), Ranges{});
}

TEST(MaximalSubtrees, ABlockUpToTheLastExpertReachesTheLastLeaf) {
  EXPECT_EQ(maximal_subtrees({0, 6}, 6), (Ranges{{0, 6}}));
  EXPECT_EQ(maximal_subtrees({4, 6}, 6), (Ranges{{4, 6}}));
  EXPECT_EQ(maximal_subtrees({5, 6}, 6), (Ranges{{5, 6}}));
  EXPECT_EQ(maximal_subtrees({2, 6}, 6), (Ranges{{2, 4}, {4, 6}}));
  EXPECT_EQ(maximal_subtrees({0, 1}, 1), (Ranges{{0, 1}}));
}

}  // namespace
}  // namespace nemo::kernels
