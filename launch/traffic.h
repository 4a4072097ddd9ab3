// What the ranks of a run sent each other, against what the plan said they would: for the manifest and the
// run's last lines.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "dist/pipeline/engine.h"
#include "dist/pipeline/process_grid.h"
#include "dist/pipeline/stage.h"
#include "dist/plan/plan.h"

namespace nemo::launch {

/// Sums over all ranks. A token is a row that went through the whole model.
struct Traffic {
  int64_t tokens = 0;
  int64_t copies = 0;          ///< rows sent to other lanes, over all layers
  int64_t exchange_bytes = 0;  ///< routed rows and expert sums
  int64_t boundary_bytes = 0;  ///< steps and hidden states, from stage to stage
  double exchange_s = 0;       ///< from posting rows or sums until all that were due had come
  double exchange_wait_s = 0;  ///< the part of it in which nothing was computed
  int64_t steps = 0;           ///< of a stage, with rows
  double bubbles = 0;          ///< time that stages waited for each other, in steps of those stages
};

/// Adds up what this rank and all others did. Collective; waits for the slowest rank of the job.
Traffic add_up_traffic(dist::Communicator& world, dist::ProcessGrid& grid, const dist::Stage& stage,
                       const dist::Engine& engine);

/// Measured figures with the planned ones beside them: expectations for evenly drawn experts. Empty
/// where nothing was computed, or nobody was there to send to.
struct TrafficReport {
  std::vector<std::pair<std::string, double>> figures;  ///< for the manifest
  std::string line;                                     ///< for people
};
TrafficReport report_traffic(const Traffic& traffic, const ModelConfig& model, const JobConfig& job,
                             const dist::Layout& layout);

}  // namespace nemo::launch
