#include "dist/plan/stage_cut.h"

#include <algorithm>
#include <limits>

#include "kernels/error.h"

namespace nemo::dist {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Two sums of the same layers in another order count as equal.
constexpr double kSameCost = 1 + 1e-9;

/// How good a partial cut is once the largest cost is settled: smaller is better.
struct Evenness {
  int64_t bad_ends = std::numeric_limits<int64_t>::max();  // nothing reaches here yet
  double sum_of_squares = kInfinity;
  bool operator<(const Evenness& other) const {
    return bad_ends != other.bad_ends ? bad_ends < other.bad_ends : sum_of_squares < other.sum_of_squares;
  }
};

/// Dynamic programming over (number of stages, layers they cover). Ranges are tried from short to long, so
/// the first one that is too costly or does not fit ends the loop.
class StageCutter {
 public:
  StageCutter(const StageCutProblem& problem, int64_t& num_examined)
      : problem_(problem), num_examined_(num_examined) {}

  /// The smallest possible largest cost; infinite if nothing fits.
  double smallest_max_cost() {
    std::vector<double> best(size(), kInfinity);
    best[0] = 0;
    for (int64_t stage = 1; stage <= problem_.num_stages; ++stage) {
      std::vector<double> next(size(), kInfinity);
      for (int64_t end = stage; end <= problem_.num_layers; ++end) {
        double& here = next[static_cast<size_t>(end)];
        for (int64_t begin = end - 1; begin >= stage - 1; --begin) {
          const double cost = cost_if_below({begin, end}, here);
          if (cost == kInfinity) break;
          here = std::min(here, std::max(cost, best[static_cast<size_t>(begin)]));
        }
      }
      best = std::move(next);
    }
    return best.back();
  }

  /// The best cut with no stage above `limit`, which must be reachable.
  std::vector<LayerRange> most_even(double limit) {
    std::vector<std::vector<int64_t>> begin_of(static_cast<size_t>(problem_.num_stages + 1),
                                               std::vector<int64_t>(size(), -1));
    std::vector<Evenness> best(size());
    best[0] = {0, 0};
    for (int64_t stage = 1; stage <= problem_.num_stages; ++stage) {
      std::vector<Evenness> next(size());
      for (int64_t end = stage; end <= problem_.num_layers; ++end)
        for (int64_t begin = end - 1; begin >= stage - 1; --begin) {
          const double cost = cost_if_below({begin, end}, limit);
          if (cost == kInfinity) break;
          const Evenness candidate = extended(best[static_cast<size_t>(begin)], end, cost);
          if (!(candidate < next[static_cast<size_t>(end)])) continue;
          next[static_cast<size_t>(end)] = candidate;
          begin_of[static_cast<size_t>(stage)][static_cast<size_t>(end)] = begin;
        }
      best = std::move(next);
    }
    return walk_back(begin_of);
  }

 private:
  size_t size() const { return static_cast<size_t>(problem_.num_layers + 1); }

  /// Infinite if the range does not fit or costs more than `limit`: then so does every longer one.
  double cost_if_below(LayerRange range, double limit) {
    ++num_examined_;
    if (!problem_.fits(range)) return kInfinity;
    const double cost = problem_.cost(range);
    return cost > limit ? kInfinity : cost;
  }

  Evenness extended(const Evenness& before, int64_t end, double cost) const {
    if (before.sum_of_squares == kInfinity) return {};
    const bool is_bad = end < problem_.num_layers && !problem_.good_end[static_cast<size_t>(end - 1)];
    return {before.bad_ends + (is_bad ? 1 : 0), before.sum_of_squares + cost * cost};
  }

  std::vector<LayerRange> walk_back(const std::vector<std::vector<int64_t>>& begin_of) const {
    std::vector<LayerRange> stages(static_cast<size_t>(problem_.num_stages));
    int64_t end = problem_.num_layers;
    for (int64_t stage = problem_.num_stages; stage >= 1; --stage) {
      const int64_t begin = begin_of[static_cast<size_t>(stage)][static_cast<size_t>(end)];
      NEMO_CHECK(begin >= 0, "no cut within the limit");
      stages[static_cast<size_t>(stage - 1)] = {begin, end};
      end = begin;
    }
    return stages;
  }

  const StageCutProblem& problem_;
  int64_t& num_examined_;
};

}  // namespace

std::optional<StageCut> cut_stages(const StageCutProblem& problem, int64_t* num_ranges_examined) {
  NEMO_CHECK(problem.num_stages >= 1 && problem.num_stages <= problem.num_layers, "stages without layers");
  int64_t num_examined = 0;
  StageCutter cutter(problem, num_examined);
  std::optional<StageCut> cut;
  const double max_cost = cutter.smallest_max_cost();
  if (max_cost < kInfinity) cut = StageCut{cutter.most_even(max_cost * kSameCost), max_cost};
  if (num_ranges_examined != nullptr) *num_ranges_examined += num_examined;
  return cut;
}

}  // namespace nemo::dist
