// Engine: the loop of one rank. The head of a lane (stage 0) schedules; the others follow. All lanes of a
// replica run every step together, with zero rows where a lane has none, because each mixture-of-experts
// layer is an exchange of all of them.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "dist/pipeline/links.h"
#include "dist/pipeline/output_stage.h"
#include "dist/pipeline/process_grid.h"
#include "dist/pipeline/stage.h"
#include "dist/schedule/scheduler.h"

namespace nemo::dist {

/// Where a lane's requests come from and its records go. Implemented by LaneClient; by tables in tests.
class LaneFeed {
 public:
  virtual ~LaneFeed() = default;
  /// Called between steps: hands new requests to `scheduler` and takes its finished records. Never waits
  /// long.
  virtual void pump(Scheduler& scheduler) = 0;
  /// No request will ever come again.
  virtual bool is_exhausted() const = 0;
};

/// How well this rank's stage was fed by the others of its lane, since its start.
struct PipelineCounters {
  int64_t steps = 0;  ///< with rows of this lane
  int64_t rows = 0;   ///< in them
  std::chrono::nanoseconds working{0};
  /// For steps and hidden states, or on the first stage for results: bubbles.
  std::chrono::nanoseconds waiting{0};
};

class Engine {
 public:
  /// References must outlive the engine. `scheduler` and `feed` are given on stage 0 only. `on_step` hears of
  /// every step before it runs.
  Engine(ProcessGrid& grid, Stage& stage, int64_t num_slots, Scheduler* scheduler, LaneFeed* feed,
         std::function<void(int64_t step)> on_step);

  /// Runs until the feed is exhausted and every lane of the replica is idle. Throws Error.
  void run();

  const PipelineCounters& counters() const { return counters_; }

 private:
  void lead();
  void follow();
  void run_step(const StepMessage& message);
  void compute(const StepMessage& message, kernels::TensorView<float> stream);
  void take_oldest_result();

  ProcessGrid& grid_;
  Stage& stage_;
  Links links_;
  std::optional<OutputStage> output_;  ///< on the last stage
  Scheduler* scheduler_;
  LaneFeed* feed_;
  std::function<void(int64_t)> on_step_;
  std::deque<int64_t> in_flight_;         ///< steps whose results are due, oldest first
  std::deque<StepResult> local_results_;  ///< where the first stage is also the last
  PipelineCounters counters_;
};

}  // namespace nemo::dist
