#include "kernels/ops/logits.h"

#include <algorithm>

#include "kernels/error.h"
#include "tests/kernels/row_purity.h"

namespace nemo::kernels {
namespace {

class LogitsTest : public KernelTest {
 protected:
  std::vector<LogitStats> stats(const Matrix& logits) {
    std::vector<LogitStats> result(static_cast<size_t>(logits.rows()));
    logit_stats(context(DType::kFloat32), logits.view(), result);
    return result;
  }
  LogitStats stats_of(const std::vector<float>& values) {
    Matrix logits(1, static_cast<int64_t>(values.size()));
    std::copy(values.begin(), values.end(), logits.row(0));
    return stats(logits)[0];
  }
};

const float kInf = INFINITY, kNan = std::nanf("");

TEST_P(LogitsTest, AgreesWithDoublePrecision) {
  for (int64_t width : {1, 2, 15, 16, 17, 63, 65, 1000, 1024, 1025, 5000, 131'072}) {
    const Matrix logits = random_matrix(random_, 3, width, 4.0f);
    const std::vector<LogitStats> result = stats(logits);
    for (int64_t i = 0; i < 3; ++i) {
      const float* row = logits.row(i);
      const float* best = std::max_element(row, row + width);
      double sum = 0;
      for (int64_t j = 0; j < width; ++j) sum += std::exp(double{row[j]} - *best);
      const LogitStats& s = result[static_cast<size_t>(i)];
      EXPECT_EQ(s.max, *best);
      EXPECT_EQ(s.argmax, best - row);
      EXPECT_NEAR(s.log_sum_exp, *best + std::log(sum), 1e-6 + 2e-7 * std::abs(*best + std::log(sum)));
    }
  }
}

TEST_P(LogitsTest, EqualLogitsGoToTheLowestId) {
  for (int64_t first : {0, 7, 1023, 1024, 3000}) {
    std::vector<float> values(4000, -1.0f);
    values[static_cast<size_t>(first)] = values[3500] = values[3999] = 2.5f;
    EXPECT_EQ(stats_of(values).argmax, first);
  }
  EXPECT_EQ(stats_of({0.0f, -0.0f}).argmax, 0);
}

TEST_P(LogitsTest, NanNeverWins) {
  std::vector<float> values(2000, -3.0f);
  values[0] = values[1500] = kNan;
  values[1999] = 4.0f;
  EXPECT_EQ(stats_of(values).argmax, 1999);
  EXPECT_EQ(stats_of(values).max, 4.0f);
  EXPECT_TRUE(std::isnan(stats_of(values).log_sum_exp));
  EXPECT_EQ(stats_of({kNan, kNan}).argmax, 0);
  EXPECT_EQ(stats_of({kNan, -kInf}).argmax, 1);
}

TEST_P(LogitsTest, ANewMaximumInEveryStretch) {
  std::vector<float> values(50'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 1e-3f;
  double sum = 0;
  for (float value : values) sum += std::exp(double{value} - values.back());
  const LogitStats rising = stats_of(values);
  EXPECT_EQ(rising.argmax, 49'999);
  EXPECT_NEAR(rising.log_sum_exp, values.back() + std::log(sum), 1e-5);
  values[3] = kNan;
  EXPECT_TRUE(std::isnan(stats_of(values).log_sum_exp));
}

TEST_P(LogitsTest, ANanAmongMaskedTokensIsNotForgotten) {
  std::vector<float> values(3000, -kInf);
  values[10] = kNan;
  values[2500] = 1.0f;
  EXPECT_TRUE(std::isnan(stats_of(values).log_sum_exp));
  EXPECT_EQ(stats_of(values).argmax, 2500);
}

TEST_P(LogitsTest, Infinities) {
  EXPECT_EQ(stats_of({-kInf, 1.0f, -kInf}).log_sum_exp, 1.0f);
  EXPECT_EQ(stats_of({-kInf, -kInf}).log_sum_exp, -kInf);
  EXPECT_EQ(stats_of({0.0f, kInf}).log_sum_exp, kInf);
  EXPECT_EQ(stats_of({0.0f, kInf}).argmax, 1);
}

TEST_P(LogitsTest, IsRowPure) {
  const RowOp op = [&](std::vector<Matrix>& in, Matrix& y) {
    const std::vector<LogitStats> result = stats(in[0]);
    for (int64_t i = 0; i < y.rows(); ++i) {
      const LogitStats& s = result[static_cast<size_t>(i)];
      y(i, 0) = s.max;
      y(i, 1) = static_cast<float>(s.argmax);
      y(i, 2) = s.log_sum_exp;
    }
  };
  expect_row_pure(op, {random_matrix(random_, 8, 40'001, 3.0f)}, 3);
}

TEST_P(LogitsTest, RefusesAnEmptyVocabulary) {
  std::vector<LogitStats> result(2);
  const Matrix logits(2, 0);
  EXPECT_THROW(logit_stats(context(DType::kFloat32), logits.view(), result), Error);
}

NEMO_INSTANTIATE(LogitsTest);

}  // namespace
}  // namespace nemo::kernels
