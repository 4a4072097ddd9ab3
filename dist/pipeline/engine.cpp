#include "dist/pipeline/engine.h"

#include <array>
#include <chrono>
#include <thread>

namespace nemo::dist {

namespace {
using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kIdlePause(200);
constexpr std::chrono::milliseconds kHeartbeat(250);  // a fraction of the shortest limits.wait_deadline
}  // namespace

Engine::Engine(ProcessGrid& grid, Stage& stage, int64_t num_slots, Scheduler* scheduler, LaneFeed* feed,
               std::function<void(int64_t)> on_step)
    : grid_(grid),
      stage_(stage),
      links_(grid.stages, stage.context()),
      scheduler_(scheduler),
      feed_(feed),
      on_step_(std::move(on_step)) {
  if (grid.is_last_stage()) output_.emplace(stage, num_slots);
}

void Engine::run() {
  if (grid_.is_first_stage()) {
    lead();
  } else {
    follow();
  }
  grid_.lanes.flush("exchange messages to be taken");
  grid_.stages.flush("the last messages of the lane to be taken");
}

void Engine::run_step(const StepMessage& message) {
  on_step_(message.step);
  grid_.lanes.set_step(message.step);
  grid_.stages.set_step(message.step);
  // The message goes ahead of the hidden states, so that the next stage is ready when they come.
  if (!grid_.is_last_stage()) links_.send_step(message);
  auto stream = stage_.stream_for(message);
  if (!grid_.is_first_stage()) {
    const Clock::time_point asked = Clock::now();
    links_.receive_hidden(stream);
    if (message.num_rows() > 0) counters_.waiting += Clock::now() - asked;
  }
  const Clock::time_point began = Clock::now();
  compute(message, stream);
  if (message.num_rows() == 0) return;
  ++counters_.steps;
  counters_.rows += message.num_rows();
  counters_.working += Clock::now() - began;
}

void Engine::compute(const StepMessage& message, kernels::TensorView<float> stream) {
  if (grid_.is_first_stage()) stage_.embed(message, stream);
  stage_.forward(message, stream);
  if (!grid_.is_last_stage()) {
    links_.send_hidden(stream);
    return;
  }
  StepResult result = output_->finish(message, stream);
  if (grid_.is_first_stage()) {
    local_results_.push_back(std::move(result));
  } else {
    links_.send_result(result);
  }
}

void Engine::take_oldest_result() {
  const int64_t step = in_flight_.front();
  in_flight_.pop_front();
  if (local_results_.empty()) {
    const Clock::time_point asked = Clock::now();
    const StepResult result = links_.receive_result(step);
    counters_.waiting += Clock::now() - asked;
    scheduler_->apply(result);
  } else {
    scheduler_->apply(local_results_.front());
    local_results_.pop_front();
  }
}

void Engine::lead() {
  const auto max_in_flight = static_cast<size_t>(grid_.stages.size());
  int64_t next_step = 0;
  Clock::time_point last_step = Clock::now();
  while (true) {
    feed_->pump(*scheduler_);
    StepMessage message = scheduler_->compose(next_step);
    // What any lane needs, all lanes do: the answer is the same everywhere, and so is the branch taken.
    const bool unfinished = !scheduler_->idle() || !feed_->is_exhausted();
    // Now and then a step of no rows tells the waiting stages that we are alive while no request is there.
    const bool is_heartbeat_due = in_flight_.empty() && Clock::now() - last_step > kHeartbeat;
    const std::array<int64_t, 3> mine = {message.num_rows(), unfinished ? 1 : 0, is_heartbeat_due ? 1 : 0};
    const auto any = grid_.lanes.all_max(mine, "the lanes to agree on the next step");
    const bool run = any[0] > 0 || any[2] > 0;
    if (run) {
      last_step = Clock::now();
      run_step(message);
      in_flight_.push_back(next_step++);
    }
    if (!in_flight_.empty() && (!run || in_flight_.size() == max_in_flight)) {
      take_oldest_result();
    } else if (!run && any[1] == 0) {
      break;
    } else if (!run) {
      std::this_thread::sleep_for(kIdlePause);  // requests are still to come
    }
  }
  feed_->pump(*scheduler_);
  if (!grid_.is_last_stage()) links_.send_step({.step = next_step, .stop = true, .segments = {}});
}

void Engine::follow() {
  while (true) {
    const Clock::time_point asked = Clock::now();
    const StepMessage message = links_.receive_step();
    // Before its first step a stage waits for requests.
    if (message.num_rows() > 0 && counters_.steps > 0) counters_.waiting += Clock::now() - asked;
    if (message.stop) {
      if (!grid_.is_last_stage()) links_.send_step(message);
      return;
    }
    run_step(message);
  }
}

}  // namespace nemo::dist
