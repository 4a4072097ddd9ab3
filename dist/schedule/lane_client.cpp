#include "dist/schedule/lane_client.h"

#include "lib/request/serialize.h"

namespace nemo::dist {

namespace {
constexpr int kCoordinatorRank = 0;
constexpr std::chrono::milliseconds kReportInterval(200);
}  // namespace

void LaneClient::pump(Scheduler& scheduler) {
  if (before_pump_) before_pump_();
  while (auto incoming = world_.poll(Tag::kToLane)) handle(incoming->bytes, scheduler);
  for (const Record& record : scheduler.take_finished()) send(ToCoordinator::kRecord, to_bytes(record));
  const int64_t missing = scheduler.wanted() - requested_;
  if (!exhausted_ && missing > 0) {
    requested_ += missing;
    send(ToCoordinator::kWant, payload_of(missing));
  }
  if (std::chrono::steady_clock::now() - last_report_ < kReportInterval) return;
  send_progress(scheduler, Scheduler::Saving::kWorthwhile);
  send_counters(scheduler);
}

void LaneClient::send(ToCoordinator kind, std::string_view payload) {
  world_.post(kCoordinatorRank, Tag::kToCoordinator, lane_message(kind, payload));
}

void LaneClient::send_progress(Scheduler& scheduler, Scheduler::Saving saving) {
  for (const SampleProgress& progress : scheduler.take_progress(saving))
    send(ToCoordinator::kProgress, to_bytes(progress));
}

void LaneClient::handle(std::string_view bytes, Scheduler& scheduler) {
  NEMO_CHECK(!bytes.empty(), "empty lane message");
  switch (static_cast<ToLane>(bytes.front())) {
    case ToLane::kRequest:
      --requested_;
      if (!stopped_) scheduler.add(request_from_bytes(bytes.substr(1)));
      break;
    case ToLane::kExhausted:
      exhausted_ = true;
      break;
    case ToLane::kStop:
      exhausted_ = stopped_ = true;
      send_progress(scheduler, Scheduler::Saving::kEverything);
      scheduler.abandon();
      break;
  }
}

void LaneClient::send_counters(const Scheduler& scheduler) {
  last_report_ = std::chrono::steady_clock::now();
  const Scheduler::Counters counters = scheduler.counters();
  const LaneCounters report{counters.prompt_tokens, counters.output_tokens, counters.preemptions};
  send(ToCoordinator::kCounters, payload_of(report));
}

void LaneClient::finish(const Scheduler& scheduler) {
  send_counters(scheduler);
  send(ToCoordinator::kFinished, {});
}

}  // namespace nemo::dist
