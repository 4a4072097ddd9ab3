// The optimal division of layers into consecutive stages. Knows layers only by what a range of them costs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "dist/plan/plan.h"

namespace nemo::dist {

/// `cost` and `fits` are asked about ranges only; a range that begins at 0 or ends at num_layers is a first
/// or last stage. Both must be monotone: a longer range costs at least as much and does not fit where a part
/// of it does not.
struct StageCutProblem {
  int64_t num_layers = 0;
  int64_t num_stages = 1;
  std::function<double(LayerRange)> cost;
  std::function<bool(LayerRange)> fits;
  std::vector<bool> good_end;  ///< by layer: a cut after it is preferred where the cost is the same
};

struct StageCut {
  std::vector<LayerRange> stages;
  double max_cost = 0;
};

/// Among all cuts into non-empty stages that fit: the one with the smallest largest cost; of those the one
/// with the fewest cuts elsewhere than after a good end; of those the most even. Nothing if no cut fits. Adds
/// the number of ranges it asked about to `*num_ranges_examined` if given.
std::optional<StageCut> cut_stages(const StageCutProblem& problem, int64_t* num_ranges_examined = nullptr);

}  // namespace nemo::dist
