#include "lib/sampling/likeliest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace nemo {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<int32_t> ids(const std::vector<RankedToken>& tokens) {
  std::vector<int32_t> result;
  for (const RankedToken& token : tokens) result.push_back(token.token_id);
  return result;
}

std::vector<int32_t> fully_sorted(std::span<const float> logits, size_t count) {
  std::vector<RankedToken> all;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isnan(logits[i])) all.push_back({logits[i], static_cast<int32_t>(i)});
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.logit > b.logit; });
  all.resize(std::min(count, all.size()));
  return ids(all);
}

TEST(Likeliest, RanksByLogitThenByLowerId) {
  const std::vector<float> logits = {1, 3, 2, 3, -kInf, kNaN, 2};
  EXPECT_EQ(ids(likeliest(logits, 3)), (std::vector<int32_t>{1, 3, 2}));
  EXPECT_EQ(ids(likeliest(logits, 100)), (std::vector<int32_t>{1, 3, 2, 6, 0, 4}));
  EXPECT_TRUE(likeliest(logits, 0).empty());
  EXPECT_TRUE(likeliest({}, 5).empty());
}

// Few distinct values, so that the last place is nearly always shared; rising and falling rows are the
// extremes for the buffer, which is cut most and least often.
TEST(Likeliest, EqualsAFullStableSort) {
  std::mt19937 random(7);
  for (const size_t size : {1, 2, 255, 256, 257, 5000}) {
    std::vector<float> logits(size);
    for (int round = 0; round < 6; ++round) {
      for (float& logit : logits) logit = static_cast<float>(random() % 40);
      if (round == 1) std::sort(logits.begin(), logits.end());
      if (round == 2) std::sort(logits.rbegin(), logits.rend());
      if (round == 3) std::fill(logits.begin(), logits.end(), 1.0F);
      if (round == 4) logits[size / 2] = kNaN;
      for (const size_t count : {1, 2, 50, 128, 129, 1000, 5000, 6000}) {
        ASSERT_EQ(ids(likeliest(logits, static_cast<int64_t>(count))), fully_sorted(logits, count))
            << "size " << size << ", count " << count << ", round " << round;
      }
    }
  }
}

TEST(LikeliestToken, TakesTheLowestOfEqualsAndNeverNaN) {
  EXPECT_EQ(likeliest_token(std::vector<float>{1, 5, 5}), 1);
  EXPECT_EQ(likeliest_token(std::vector<float>{kNaN, -3, kNaN, -2}), 3);
  EXPECT_EQ(likeliest_token(std::vector<float>{kNaN, -kInf, -kInf}), 1);
  EXPECT_EQ(likeliest_token(std::vector<float>{0, kInf, kInf}), 1);
  EXPECT_EQ(likeliest_token(std::vector<float>{kNaN, kNaN}), 0);
}

}  // namespace
}  // namespace nemo
