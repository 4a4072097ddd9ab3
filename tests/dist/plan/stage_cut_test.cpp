#include "dist/plan/stage_cut.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <tuple>

namespace nemo::dist {
namespace {

/// Layers with their own costs and sizes; the first and last stage pay extra; a stage fits up to `limit`.
struct Layers {
  std::vector<double> cost, size;
  double first_extra = 0, last_extra = 0, limit = 1e9;

  double sum(const std::vector<double>& values, LayerRange range) const {
    double total = std::accumulate(values.begin() + range.begin, values.begin() + range.end, 0.0);
    if (range.begin == 0) total += first_extra;
    if (range.end == static_cast<int64_t>(values.size())) total += last_extra;
    return total;
  }
  StageCutProblem problem(int64_t num_stages) const {
    StageCutProblem problem;
    problem.num_layers = static_cast<int64_t>(cost.size());
    problem.num_stages = num_stages;
    problem.cost = [this](LayerRange range) { return sum(cost, range); };
    problem.fits = [this](LayerRange range) { return sum(size, range) <= limit; };
    problem.good_end.assign(cost.size(), false);
    return problem;
  }
};

/// What a cut is judged by, worst first; whole numbers, so that sums are exact.
using Verdict = std::tuple<double, int64_t, double>;

Verdict judge(const StageCutProblem& problem, const std::vector<LayerRange>& stages) {
  Verdict verdict{0, 0, 0};
  for (const LayerRange& stage : stages) {
    const double cost = problem.cost(stage);
    std::get<0>(verdict) = std::max(std::get<0>(verdict), cost);
    if (stage.end < problem.num_layers && !problem.good_end[static_cast<size_t>(stage.end - 1)])
      ++std::get<1>(verdict);
    std::get<2>(verdict) += cost * cost;
  }
  return verdict;
}

/// The best verdict over all cuts of layers [begin, num_layers) into what is left of the stages.
std::optional<Verdict> brute_force(const StageCutProblem& problem, std::vector<LayerRange>& stages) {
  const int64_t begin = stages.empty() ? 0 : stages.back().end;
  const int64_t stages_left = problem.num_stages - static_cast<int64_t>(stages.size());
  if (stages_left == 0)
    return begin == problem.num_layers ? std::optional(judge(problem, stages)) : std::nullopt;
  std::optional<Verdict> best;
  for (int64_t end = begin + 1; end <= problem.num_layers; ++end) {
    if (!problem.fits({begin, end})) continue;
    stages.push_back({begin, end});
    const std::optional<Verdict> verdict = brute_force(problem, stages);
    if (verdict && (!best || *verdict < *best)) best = verdict;
    stages.pop_back();
  }
  return best;
}

TEST(StageCut, IsTheBestOfAllCuts) {
  std::mt19937 random(7);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  int num_impossible = 0;
  for (int round = 0; round < 400; ++round) {
    Layers layers;
    const int num_layers = pick(1, 9);
    for (int i = 0; i < num_layers; ++i) {
      layers.cost.push_back(pick(1, 6));
      layers.size.push_back(pick(1, 6));
    }
    layers.first_extra = pick(0, 3);
    layers.last_extra = pick(0, 5);
    layers.limit = pick(0, 1) == 0 ? 1e9 : pick(5, 30);
    StageCutProblem problem = layers.problem(pick(1, num_layers));
    for (size_t i = 0; i < problem.good_end.size(); ++i) problem.good_end[i] = pick(0, 1) == 1;

    std::vector<LayerRange> stages;
    const std::optional<Verdict> best = brute_force(problem, stages);
    const std::optional<StageCut> cut = cut_stages(problem);
    ASSERT_EQ(cut.has_value(), best.has_value()) << "round " << round;
    num_impossible += best ? 0 : 1;
    if (!best) continue;
    EXPECT_EQ(judge(problem, cut->stages), *best) << "round " << round;
    EXPECT_EQ(cut->max_cost, std::get<0>(*best));
    EXPECT_EQ(cut->stages.front().begin, 0);
    EXPECT_EQ(cut->stages.back().end, num_layers);
  }
  EXPECT_GT(num_impossible, 20);  // or the limit was never tested
}

TEST(StageCut, BalancesCostNotCounts) {
  Layers layers;
  layers.cost = layers.size = {1, 1, 1, 1, 1, 1, 9};
  const auto cut = cut_stages(layers.problem(2));
  EXPECT_EQ(cut->stages[0], (LayerRange{0, 6}));
}

TEST(StageCut, PrefersGoodEndsOnlyAmongEquals) {
  Layers layers;
  layers.cost = layers.size = {2, 1, 1, 2};
  StageCutProblem problem = layers.problem(2);
  problem.good_end = {true, false, true, false};
  EXPECT_EQ(cut_stages(problem)->stages[0].end, 2);  // 3 + 3 beats a good end with 4 + 2
  layers.last_extra = 1;
  problem.good_end = {false, false, true, false};
  EXPECT_EQ(cut_stages(problem)->stages[0].end, 3);  // 3 + 4 and 4 + 3: the good end decides
}

TEST(StageCut, MoreStagesNeverMakeTheSlowestSlower) {
  std::mt19937 random(11);
  Layers layers;
  for (int i = 0; i < 40; ++i) layers.cost.push_back(std::uniform_real_distribution<>(0.1, 3)(random));
  layers.size = layers.cost;
  double before = 1e300;
  for (int64_t num_stages = 1; num_stages <= 40; ++num_stages) {
    const double now = cut_stages(layers.problem(num_stages))->max_cost;
    EXPECT_LE(now, before);
    before = now;
  }
}

TEST(StageCut, ExaminesFewRanges) {
  Layers layers;
  layers.cost.assign(118, 1.0);  // the deepest published model
  layers.size = layers.cost;
  for (const int64_t num_stages : {1, 2, 16, 59, 118}) {
    int64_t num_ranges = 0;
    cut_stages(layers.problem(num_stages), &num_ranges);
    EXPECT_LE(num_ranges, 5 * 118 * 118) << num_stages;  // whatever the number of stages
  }
}

}  // namespace
}  // namespace nemo::dist
