#include "lib/sampling/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace nemo {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Weigh, IsTheExponential) {
  std::mt19937 random(1);
  for (const double temperature : {0.01, 0.7, 1.0, 100.0}) {
    std::vector<float> logits = {5, 5, 4.9999995F, -1e-30F, -3e38F};
    for (int i = 0; i < 2000; ++i) logits.push_back(5 - static_cast<float>(random() % 700000) / 1000);
    const std::vector<double> weights = weigh(logits, 5, temperature);
    EXPECT_EQ(weights[0], 1);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double exponent = static_cast<double>(logits[i] - 5) / temperature;
      const double expected = exponent <= -700 ? 0 : std::exp(exponent);
      ASSERT_NEAR(weights[i], expected, 1e-10 * expected) << logits[i] << " at " << temperature;
    }
  }
}

TEST(Weigh, WhatIsNoNumberHasNone) {
  EXPECT_EQ(weigh(std::vector<float>{kNaN, 1, -kInf}, 1, 1), (std::vector<double>{0, 1, 0}));
  EXPECT_EQ(weigh(std::vector<float>{2, 1}, 2, 1e-300), (std::vector<double>{1, 0}));
}

std::vector<bool> kept(std::vector<float> logits, double top_p) {
  std::vector<double> weights = weigh(logits, *std::max_element(logits.begin(), logits.end()), 1);
  keep_nucleus(weights, logits, top_p);
  std::vector<bool> result;
  for (const double weight : weights) result.push_back(weight > 0);
  return result;
}

TEST(KeepNucleus, IsTheSmallestSetOfLikeliest) {
  const float one = 0, half = std::log(0.5F), tenth = std::log(0.1F);
  using Kept = std::vector<bool>;
  EXPECT_EQ(kept({tenth, one, half}, 1e-9), (Kept{false, true, false}));
  EXPECT_EQ(kept({tenth, one, half}, 0.6), (Kept{false, true, false}));
  EXPECT_EQ(kept({tenth, one, half}, 0.9), (Kept{false, true, true}));
  EXPECT_EQ(kept({tenth, one, half}, 0.99), (Kept{true, true, true}));
  EXPECT_EQ(kept({one, one, one, one}, 0.5), (Kept{true, true, false, false}));
  EXPECT_EQ(kept({one}, 0.5), Kept{true});
}

// Logits of few values share bins and places; the sum of the set, less its last member, must not have been
// enough.
TEST(KeepNucleus, IsNeitherTooSmallNorTooLarge) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    std::vector<float> logits(1 + random() % 2000);
    const bool has_ties = round % 2 == 0;
    for (float& logit : logits)
      logit = -static_cast<float>(random() % (has_ties ? 9 : 90000)) / (has_ties ? 1 : 5000);
    const double top_p = std::vector{0.1, 0.5, 0.9, 0.999, 1 - 1e-12}[random() % 5];
    const std::vector<double> all = weigh(logits, *std::max_element(logits.begin(), logits.end()), 1);
    const std::vector<bool> is_kept = kept(logits, top_p);
    double total = 0, sum = 0, least = 2;
    float lowest_kept = kInf, highest_dropped = -kInf;
    for (size_t i = 0; i < all.size(); ++i) {
      total += all[i];
      if (is_kept[i])
        sum += all[i], least = std::min(least, all[i]), lowest_kept = std::min(lowest_kept, logits[i]);
      if (!is_kept[i]) highest_dropped = std::max(highest_dropped, logits[i]);
    }
    ASSERT_GE(lowest_kept, highest_dropped);
    ASSERT_GE(sum, top_p * total * (1 - 1e-12));
    ASSERT_LT(sum - least, top_p * total * (1 + 1e-12));
  }
}

TEST(DrawIndex, InvertsTheCumulativeSum) {
  const std::vector<double> weights = {0, 1, 0, 2, 1, 0};
  EXPECT_EQ(draw_index(weights, 1e-16), 1U);
  EXPECT_EQ(draw_index(weights, 0.2499), 1U);
  EXPECT_EQ(draw_index(weights, 0.25), 3U);
  EXPECT_EQ(draw_index(weights, 0.7499), 3U);
  EXPECT_EQ(draw_index(weights, 0.75), 4U);
  EXPECT_EQ(draw_index(weights, 1 - 0x1p-53), 4U);
}

TEST(DrawIndex, FindsTheBlock) {
  std::vector<double> weights(1000, 0);
  weights[3] = weights[300] = weights[999] = 1;
  EXPECT_EQ(draw_index(weights, 0.1), 3U);
  EXPECT_EQ(draw_index(weights, 0.5), 300U);
  EXPECT_EQ(draw_index(weights, 0.9), 999U);
}

// Sums that rounding leaves below the target must end at a token that has weight.
TEST(DrawIndex, NeverDrawsWhatHasNoWeight) {
  std::mt19937 random(9);
  for (int round = 0; round < 300; ++round) {
    std::vector<double> weights(1 + random() % 1500, 0);
    for (double& weight : weights) {
      if (random() % 3 == 0) weight = std::exp(-static_cast<double>(random() % 60));
    }
    weights[random() % weights.size()] = 1;
    for (const double uniform : {0x1p-53, 0.3, 0.999999, 1 - 0x1p-53}) {
      ASSERT_GT(weights[draw_index(weights, uniform)], 0);
    }
  }
}

}  // namespace
}  // namespace nemo
