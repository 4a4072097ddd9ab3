#include "kernels/ops/router.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/error.h"
#include "tests/kernels/row_purity.h"

namespace nemo::kernels {
namespace {

struct Routed {
  MatrixOf<int32_t> ids;
  Matrix weights;
};

class RouterTest : public KernelTest {
 protected:
  Routed routed(const Matrix& logits, const std::vector<float>& bias, const RouterShape& shape) {
    Routed result{{logits.rows(), shape.top_k}, {logits.rows(), shape.top_k}};
    route(context(DType::kBFloat16), logits.view(), bias, shape, result.ids.view(), result.weights.view());
    EXPECT_TRUE(result.ids.intact() && result.weights.intact());
    return result;
  }
};

/// The definition, sorting everything.
std::vector<int32_t> reference_choice(const std::vector<double>& score, const RouterShape& shape) {
  const int64_t width = shape.num_experts / shape.num_groups;
  std::vector<std::pair<double, int64_t>> groups;
  for (int64_t g = 0; g < shape.num_groups; ++g) {
    std::vector<double> members(score.begin() + g * width, score.begin() + (g + 1) * width);
    std::sort(members.rbegin(), members.rend());
    groups.emplace_back(-(members[0] + (width > 1 ? members[1] : 0.0)), g);
  }
  std::sort(groups.begin(), groups.end());
  std::vector<std::pair<double, int32_t>> experts;
  for (int64_t i = 0; i < shape.num_kept_groups; ++i)
    for (int64_t e = groups[static_cast<size_t>(i)].second * width, end = e + width; e < end; ++e)
      experts.emplace_back(-score[static_cast<size_t>(e)], static_cast<int32_t>(e));
  std::sort(experts.begin(), experts.end());
  std::vector<int32_t> chosen;
  for (int64_t i = 0; i < shape.top_k; ++i) chosen.push_back(experts[static_cast<size_t>(i)].second);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

TEST_P(RouterTest, AgreesWithTheDefinition) {
  const RouterShape shapes[] = {{.num_experts = 128, .top_k = 6, .scaling_factor = 2.5f},
                                {.num_experts = 512, .top_k = 22, .scaling_factor = 5.0f},
                                {.num_experts = 8, .top_k = 8},
                                {.num_experts = 9, .top_k = 1, .normalize = false, .scaling_factor = 3.0f},
                                {.num_experts = 64, .top_k = 5, .num_groups = 8, .num_kept_groups = 3},
                                {.num_experts = 6, .top_k = 2, .num_groups = 6, .num_kept_groups = 4}};
  for (const RouterShape& shape : shapes) {
    const Matrix logits = random_matrix(random_, 7, shape.num_experts, 2.0f);
    const std::vector<float> bias = random_vector(random_, shape.num_experts, 0.2f);
    const Routed result = routed(logits, bias, shape);
    for (int64_t i = 0; i < logits.rows(); ++i) {
      std::vector<double> s, choice;
      for (int64_t e = 0; e < shape.num_experts; ++e) {
        s.push_back(1 / (1 + std::exp(-double{logits(i, e)})));
        choice.push_back(s.back() + bias[static_cast<size_t>(e)]);
      }
      const std::vector<int32_t> chosen = reference_choice(choice, shape);
      ASSERT_EQ(std::vector<int32_t>(result.ids.row(i), result.ids.row(i) + shape.top_k), chosen);
      double sum = 1e-20;
      for (int32_t e : chosen) sum += s[static_cast<size_t>(e)];
      for (size_t j = 0; j < chosen.size(); ++j) {
        const double want =
            s[static_cast<size_t>(chosen[j])] / (shape.normalize ? sum : 1.0) * shape.scaling_factor;
        ASSERT_NEAR(result.weights(i, static_cast<int64_t>(j)), want, 2e-6 * want);
      }
    }
  }
}

TEST_P(RouterTest, EqualScoresGoToTheLowerIndex) {
  Matrix logits(1, 16);
  std::fill_n(logits.row(0), 16, 0.5f);
  const Routed result = routed(logits, std::vector<float>(16, 0.0f), {.num_experts = 16, .top_k = 4});
  for (int32_t j = 0; j < 4; ++j) EXPECT_EQ(result.ids(0, j), j);
  const Routed grouped = routed(logits, std::vector<float>(16, 0.0f),
                                {.num_experts = 16, .top_k = 3, .num_groups = 4, .num_kept_groups = 1});
  for (int32_t j = 0; j < 3; ++j) EXPECT_EQ(grouped.ids(0, j), j);
}

TEST_P(RouterTest, NanStillGivesDistinctExperts) {
  for (int64_t groups : {1, 4}) {
    const RouterShape shape{
        .num_experts = 16, .top_k = 5, .num_groups = groups, .num_kept_groups = groups == 1 ? 1 : 2};
    Matrix logits = random_matrix(random_, 3, 16);
    std::fill_n(logits.row(0), 16, std::nanf(""));
    for (int64_t e = 0; e < 14; ++e) logits(1, e) = std::nanf("");
    std::fill_n(logits.row(2), 16, -INFINITY);
    const Routed result = routed(logits, std::vector<float>(16, 0.0f), shape);
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t j = 0; j < 5; ++j) {
        EXPECT_TRUE(result.ids(i, j) >= 0 && result.ids(i, j) < 16);
        if (j > 0) {
          EXPECT_LT(result.ids(i, j - 1), result.ids(i, j));
        }
      }
    if (groups == 1) {
      EXPECT_EQ(std::vector<int32_t>(result.ids.row(1), result.ids.row(1) + 5),
                (std::vector<int32_t>{0, 1, 2, 14, 15}));
    }
  }
}

TEST_P(RouterTest, IsRowPure) {
  const RouterShape shape{.num_experts = 96, .top_k = 7, .scaling_factor = 2.5f};
  const std::vector<float> bias = random_vector(random_, 96);
  const RowOp op = [&](std::vector<Matrix>& in, Matrix& y) {
    const Routed result = routed(in[0], bias, shape);
    for (int64_t i = 0; i < y.rows(); ++i)
      for (int64_t j = 0; j < 7; ++j) {
        y(i, j) = static_cast<float>(result.ids(i, j));
        y(i, 7 + j) = result.weights(i, j);
      }
  };
  expect_row_pure(op, {random_matrix(random_, 60, 96)}, 14);
}

TEST_P(RouterTest, RefusesMoreExpertsThanThereAre) {
  const Matrix logits = random_matrix(random_, 1, 8);
  EXPECT_THROW(routed(logits, std::vector<float>(8), {.num_experts = 8, .top_k = 9}), Error);
  EXPECT_THROW(routed(logits, std::vector<float>(8),
                      {.num_experts = 8, .top_k = 3, .num_groups = 4, .num_kept_groups = 1}),
               Error);
}

NEMO_INSTANTIATE(RouterTest);

}  // namespace
}  // namespace nemo::kernels
