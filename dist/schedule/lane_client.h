// LaneClient: a lane's line to the coordinator on rank 0: asks for requests on demand, delivers records and,
// of long outputs, progress; reports counters.
#pragma once

#include <chrono>
#include <functional>

#include "dist/comm/communicator.h"
#include "dist/pipeline/engine.h"
#include "dist/schedule/lane_message.h"
#include "dist/schedule/scheduler.h"

namespace nemo::dist {

class LaneClient : public LaneFeed {
 public:
  /// `world` must outlive the client. `before_pump` (may be empty) runs first in every pump: on rank 0 it is
  /// the coordinator's turn, for both live on the main thread.
  LaneClient(Communicator& world, std::function<void()> before_pump)
      : world_(world), before_pump_(std::move(before_pump)) {}

  void pump(Scheduler& scheduler) override;
  bool is_exhausted() const override { return exhausted_; }

  /// Says that this lane is done. Call once, after Engine::run.
  void finish(const Scheduler& scheduler);

 private:
  void handle(std::string_view bytes, Scheduler& scheduler);
  void send(ToCoordinator kind, std::string_view payload);
  void send_progress(Scheduler& scheduler, Scheduler::Saving saving);
  void send_counters(const Scheduler& scheduler);

  Communicator& world_;
  std::function<void()> before_pump_;
  int64_t requested_ = 0;  ///< asked for and not yet received
  bool exhausted_ = false;
  bool stopped_ = false;
  std::chrono::steady_clock::time_point last_report_{};
};

}  // namespace nemo::dist
