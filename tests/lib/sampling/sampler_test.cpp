#include "lib/sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "lib/sampling/counter_rng.h"

namespace nemo {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

kernels::LogitStats stats_of(std::span<const float> logits) {
  kernels::LogitStats stats{-kInf, 0, 0};
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    sum += std::exp(static_cast<double>(logits[i]));
    if (logits[i] > stats.max) stats = {logits[i], static_cast<int32_t>(i), 0};
  }
  stats.log_sum_exp = static_cast<float>(std::log(sum));
  return stats;
}

SampledToken sample(const Sampler& sampler, std::vector<float> logits, int64_t position = 0) {
  const kernels::LogitStats stats = stats_of(logits);
  return sampler.sample(logits, stats, position);
}

std::vector<float> random_logits(std::mt19937& random, size_t size, double spread) {
  std::normal_distribution<float> normal(0, static_cast<float>(spread));
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// The slow, obvious reference: everything in double, everything sorted, one step after the other.
std::vector<double> naive_distribution(std::span<const float> logits, const SamplingParams& p) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (p.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(p.top_k)));
  std::vector<double> probability(logits.size(), 0.0);
  const auto normalize = [&] {
    double total = 0;
    for (const size_t i : order) total += probability[i];
    for (double& value : probability) value /= total;
  };
  for (const size_t i : order) probability[i] = std::exp((logits[i] - logits[order[0]]) / p.temperature);
  normalize();
  double mass = 0;
  for (const size_t i : order) {
    const bool reached = mass >= p.top_p;
    mass += probability[i];
    if (reached || probability[i] < p.min_p * probability[order[0]]) probability[i] = 0;
  }
  normalize();
  return probability;
}

int32_t naive_draw(const std::vector<double>& probability, double uniform) {
  double sum = 0;
  for (size_t i = 0; i < probability.size(); ++i) {
    sum += probability[i];
    if (sum > uniform) return static_cast<int32_t>(i);
  }
  return -1;
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  SamplingKey key;
  key.params.temperature = 0;
  EXPECT_EQ(sample(Sampler(key), {1, 7, 7, 7, 2}).token_id, 1);
}

TEST(Sampler, OneTokenLeftIsAlwaysDrawn) {
  SamplingKey key;
  key.params.top_k = 1;
  for (int position = 0; position < 100; ++position) {
    EXPECT_EQ(sample(Sampler(key), {1, 7, 7, 2}, position).token_id, 1);
  }
}

TEST(Sampler, EqualsTheNaiveReference) {
  std::mt19937 random(3);
  for (const size_t size : {3, 255, 256, 700, 3000}) {
    for (int round = 0; round < 60; ++round) {
      SamplingKey key;
      key.params.seed = 77;
      key.request_hash = static_cast<uint64_t>(round);
      key.params.temperature = std::vector{0.3, 1.0, 2.5}[random() % 3];
      key.params.top_k = std::vector{0, 1, 5, 300}[random() % 4];
      key.params.top_p = std::vector{1.0, 0.05, 0.5, 0.97}[random() % 4];
      key.params.min_p = std::vector{0.0, 0.0, 0.02, 0.3}[random() % 4];
      const std::vector<float> logits = random_logits(random, size, 3);
      const std::vector<double> probability = naive_distribution(logits, key.params);
      const Sampler sampler(key);
      for (uint32_t position = 0; position < 20; ++position) {
        const int32_t expected = naive_draw(probability, uniform_draw(77, key.request_hash, 0, position));
        ASSERT_EQ(sample(sampler, logits, position).token_id, expected)
            << "size " << size << " round " << round << " position " << position;
      }
    }
  }
}

// Equal logits across the boundary: exactly top_k, respectively just enough mass, remain, the lower ids
// first.
TEST(Sampler, TiesAtTheBoundaryGoToLowerIds) {
  SamplingKey by_count, by_mass;
  by_count.params.top_k = 3;
  by_mass.params.top_p = 0.3;  // of 10 equal tokens
  std::map<int32_t, int> counted, massed;
  for (int position = 0; position < 500; ++position) {
    ++counted[sample(Sampler(by_count), std::vector<float>(10, 2.0F), position).token_id];
    ++massed[sample(Sampler(by_mass), std::vector<float>(10, 2.0F), position).token_id];
  }
  EXPECT_EQ(counted.size(), 3U);
  EXPECT_EQ(counted.rbegin()->first, 2);
  EXPECT_EQ(massed.rbegin()->first, static_cast<int32_t>(massed.size()) - 1);
  EXPECT_EQ(massed.size(), 3U);
}

// 0.999 quantiles of chi-square. Seeds are fixed, so this passes always or never.
TEST(Sampler, DrawsTheDistribution) {
  std::mt19937 random(11);
  const std::vector<float> logits = random_logits(random, 20, 1.0);
  for (const double temperature : {0.7, 1.0, 1.6}) {
    SamplingKey key;
    key.params.temperature = temperature;
    key.request_hash = hash_request_id("chi");
    const std::vector<double> probability = naive_distribution(logits, key.params);
    std::vector<double> counts(logits.size());
    constexpr int kDraws = 40000;
    for (int position = 0; position < kDraws; ++position) {
      ++counts[static_cast<size_t>(sample(Sampler(key), logits, position).token_id)];
    }
    double chi_square = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      const double expected = kDraws * probability[i];
      chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    EXPECT_LT(chi_square, 43.8) << temperature;  // 19 degrees of freedom
  }
}

TEST(Sampler, SamplesSeedsAndRequestsDiffer) {
  const std::vector<float> logits(1000, 0.0F);
  const auto drawn = [&](uint64_t seed, std::string_view id, int64_t number) {
    SamplingKey key;
    key.params.seed = seed;
    key.request_hash = hash_request_id(id);
    key.sample = number;
    std::vector<int32_t> tokens;
    for (int position = 0; position < 8; ++position)
      tokens.push_back(sample(Sampler(key), logits, position).token_id);
    return tokens;
  };
  EXPECT_EQ(drawn(1, "a", 0), drawn(1, "a", 0));
  EXPECT_NE(drawn(1, "a", 0), drawn(2, "a", 0));
  EXPECT_NE(drawn(1, "a", 0), drawn(1, "b", 0));
  EXPECT_NE(drawn(1, "a", 0), drawn(1, "a", 1));
}

// A draw belongs to its position: other draws before it, in any order, and where the prompt ends do not
// matter.
TEST(Sampler, DrawsDoNotDependOnTheOrderOfCalls) {
  std::mt19937 random(5);
  const std::vector<float> logits = random_logits(random, 500, 2);
  SamplingKey key;
  key.num_prompt_tokens = 10;
  const Sampler sampler(key);
  std::vector<int32_t> forward, backward;
  for (int position = 10; position < 60; ++position)
    forward.push_back(sample(sampler, logits, position).token_id);
  for (int position = 59; position >= 10; --position)
    backward.push_back(sample(sampler, logits, position).token_id);
  std::reverse(backward.begin(), backward.end());
  EXPECT_EQ(forward, backward);
  key.num_prompt_tokens = 0;
  EXPECT_EQ(sample(Sampler(key), logits, 7).token_id, forward[7]);
}

TEST(Sampler, RepetitionPenaltyFollowsTheSignOnPromptAndOutput) {
  SamplingKey key;
  key.params.temperature = 0;
  key.params.repetition_penalty = 2;
  key.num_prompt_tokens = 2;
  Sampler sampler(key);
  sampler.observe(0, std::vector<int32_t>{0, 0});  // twice in the prompt, divided once
  sampler.observe(2, std::vector<int32_t>{1});
  EXPECT_EQ(sample(sampler, {8, 7, 3.9F, 0}, 3).token_id, 0);      // 4, 3.5, 3.9
  EXPECT_EQ(sample(sampler, {7, 8, 4.1F, 0}, 3).token_id, 2);      // 3.5, 4, 4.1
  EXPECT_EQ(sample(sampler, {-1, -3, -1.9F, -9}, 3).token_id, 2);  // -2, -6, -1.9
}

TEST(Sampler, FrequencyAndPresenceCountTheOutputOnly) {
  SamplingKey key;
  key.params.temperature = 0;
  key.params.frequency_penalty = 0.5;
  key.params.presence_penalty = 1;
  key.num_prompt_tokens = 3;
  Sampler sampler(key);
  sampler.observe(0, std::vector<int32_t>{0, 1, 0});
  sampler.observe(3, std::vector<int32_t>{1, 1, 2});
  EXPECT_EQ(sample(sampler, {1, 2.9F, 2.4F}, 6).token_id, 0);  // 1, 2.9 - 2 = 0.9, 2.4 - 1.5 = 0.9
  EXPECT_EQ(sample(sampler, {1, 3.1F, 2.4F}, 6).token_id, 1);
  EXPECT_EQ(sample(sampler, {1, 2.9F, 2.6F}, 6).token_id, 2);
}

TEST(Sampler, ObservingInPiecesIsTheSame) {
  SamplingKey key;
  key.params.repetition_penalty = 1.7;
  key.params.frequency_penalty = 0.3;
  key.num_prompt_tokens = 4;
  const std::vector<int32_t> tokens = {1, 2, 3, 1, 5, 1, 5};
  Sampler whole(key), pieces(key);
  whole.observe(0, tokens);
  pieces.observe(0, std::span(tokens).first(3));
  pieces.observe(3, std::span(tokens).subspan(3, 3));
  pieces.observe(6, std::span(tokens).subspan(6));
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    const std::vector<float> logits = random_logits(random, 8, 2);
    ASSERT_EQ(sample(whole, logits, 7 + round).token_id, sample(pieces, logits, 7 + round).token_id);
  }
}

TEST(Sampler, EndTokensWaitForMinTokens) {
  SamplingKey key;
  key.params.temperature = 0;
  key.params.min_tokens = 2;
  key.num_prompt_tokens = 5;
  key.end_token_ids = {1, 1, 99};  // listed twice, and one outside the vocabulary
  const Sampler sampler(key);
  const std::vector<float> logits = {3, 9, 4};
  EXPECT_EQ(sample(sampler, logits, 5).token_id, 2);
  EXPECT_EQ(sample(sampler, logits, 6).token_id, 2);
  EXPECT_EQ(sample(sampler, logits, 7).token_id, 1);
}

TEST(Sampler, LogprobsAreTheModelsOwn) {
  SamplingKey key;
  key.params.temperature = 0;
  key.params.logprobs = 2;
  key.params.repetition_penalty = 10;
  key.params.min_tokens = 5;
  key.end_token_ids = {1, 2};
  key.num_prompt_tokens = 1;
  Sampler sampler(key);
  sampler.observe(0, std::vector<int32_t>{1});  // penalized and masked
  const std::vector<float> logits = {3, 9, 4, 4};
  const kernels::LogitStats stats = stats_of(logits);
  const SampledToken drawn = sample(sampler, logits, 1);
  EXPECT_EQ(drawn.token_id, 3);
  EXPECT_EQ(drawn.logprob, logprob_of(4, stats));
  EXPECT_EQ(drawn.top, (std::vector<TokenLogprob>{{1, logprob_of(9, stats)}, {2, logprob_of(4, stats)}}));
}

TEST(Sampler, LogitsThatAreNoNumbers) {
  for (const double temperature : {0.0, 1.0}) {
    SamplingKey key;
    key.params.temperature = temperature;
    const Sampler sampler(key);
    EXPECT_EQ(sample(sampler, {kNaN, -kInf, 1, kNaN}).token_id, 2);
    EXPECT_EQ(sample(sampler, {1, kInf, kInf}).token_id, 1);
    EXPECT_EQ(sample(sampler, {kNaN, kNaN}).token_id, 0);
    key.params.min_tokens = 1;
    key.end_token_ids = {0, 1};
    EXPECT_EQ(sample(Sampler(key), {1, 2, kNaN}).token_id, 0);
  }
}

TEST(Sampler, NaNIsNeverDrawnWithAnyFilter) {
  for (int filter = 0; filter < 8; ++filter) {
    SamplingKey key;
    key.params.top_k = filter & 1 ? 5 : 0;
    key.params.top_p = filter & 2 ? 0.9 : 1;
    key.params.min_p = filter & 4 ? 0.01 : 0;
    for (int position = 0; position < 200; ++position) {
      const int32_t token_id =
          sample(Sampler(key), {kNaN, 1, kNaN, 1.5F, kNaN, 0.5F, -kInf, kNaN}, position).token_id;
      ASSERT_TRUE(token_id == 1 || token_id == 3 || token_id == 5) << token_id;
    }
  }
}

TEST(HashRequestId, IsTheSameEverywhere) {
  EXPECT_EQ(hash_request_id(""), 0x2d06800538d394c2ULL);  // XXH3, 64 bits, seed 0: a published value
  EXPECT_NE(hash_request_id("1"), hash_request_id("2"));
}

}  // namespace
}  // namespace nemo
