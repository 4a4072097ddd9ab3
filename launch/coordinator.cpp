#include "launch/coordinator.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "dist/schedule/scheduler.h"
#include "lib/request/serialize.h"

namespace nemo::launch {

using dist::LaneCounters;
using dist::Tag;
using dist::ToCoordinator;
using dist::ToLane;
using Clock = std::chrono::steady_clock;

Coordinator::Coordinator(dist::Communicator& world, std::vector<int> lane_heads,
                         std::chrono::seconds longest_silence, RequestReader& reader, Recorder& recorder,
                         Progress& progress)
    : world_(world),
      longest_silence_(longest_silence),
      reader_(reader),
      recorder_(recorder),
      progress_(progress) {
  for (const int head : lane_heads) lanes_.push_back({.head = head, .counters = {}});
}

void Coordinator::pump() {
  recorder_.rethrow_if_failed();
  while (const auto incoming = world_.poll(Tag::kToCoordinator)) take_message(*incoming);
  if (recorder_.stop_reason() != StopReason::kNone && !told_stop_) {
    tell_all(ToLane::kStop);
    told_stop_ = true;
  }
  if (!told_stop_) hand_out();
  report_tokens();
  check_silence();
}

void Coordinator::take_message(const dist::Communicator::Incoming& incoming) {
  const auto lane = std::ranges::find(lanes_, incoming.source, &Lane::head);
  NEMO_CHECK(lane != lanes_.end() && !incoming.bytes.empty(),
             "message from rank " + std::to_string(incoming.source));
  lane->last_heard = Clock::now();
  const std::string_view payload = std::string_view(incoming.bytes).substr(1);
  switch (static_cast<ToCoordinator>(incoming.bytes.front())) {
    case ToCoordinator::kWant:
      lane->credit += dist::value_from<int64_t>(payload);
      lane->has_asked = true;
      break;
    case ToCoordinator::kRecord:
      take_record(record_from_bytes(payload));
      break;
    case ToCoordinator::kProgress:
      recorder_.submit(sample_progress_from_bytes(payload));
      break;
    case ToCoordinator::kCounters:
      lane->counters = dist::value_from<LaneCounters>(payload);
      break;
    case ToCoordinator::kFinished:
      lane->finished = true;
      break;
  }
}

void Coordinator::take_record(Record record) {
  if (!record.error || record.error->code != dist::kKvCacheTooSmall) {
    recorder_.submit(std::move(record));
    return;
  }
  // Another layout may have room: an error in the results would depend on this one.
  if (misfits_.count++ == 0) misfits_.first = "request '" + record.id + "': " + record.error->message;
}

void Coordinator::hand_out() {
  // Prompts are dealt in turn once all lanes have asked: whoever starts first would otherwise take a short
  // job whole.
  if (!std::ranges::all_of(lanes_, &Lane::has_asked)) return;
  while (Lane* lane = next_lane_with_credit()) {
    std::optional<Prompt> prompt = reader_.try_next();
    if (!prompt) break;
    if (const auto* record = std::get_if<Record>(&*prompt)) {
      recorder_.submit(*record);
      continue;
    }
    Request& request = std::get<Request>(*prompt);
    Lane& taker = lane_for(request, *lane);
    send(std::move(request), taker);
  }
  if (!told_exhausted_ && reader_.is_finished()) {
    tell_all(ToLane::kExhausted);
    told_exhausted_ = true;
  }
}

void Coordinator::send(Request request, Lane& lane) {
  if (request.task == Task::kGenerate)
    request.prior_outputs = recorder_.prior_outputs(request.index, request.sampling.n);
  world_.post(lane.head, Tag::kToLane, dist::lane_message(ToLane::kRequest, to_bytes(request)));
  --lane.credit;
  if (&lane == &lanes_[next_lane_]) ++next_lane_;
}

// Choices for a context come one after the other. A lane that has them all computes their context once.
Coordinator::Lane& Coordinator::lane_for(const Request& request, Lane& next) {
  const bool can_share = request.task == Task::kScore &&
                         static_cast<int64_t>(request.prompt_ids.size()) > dist::kLeastSharedRows;
  Lane* const last = std::exchange(last_lane_, &next);
  if (can_share && last != nullptr && last->credit > 0 && request.prompt_ids == last_context_)
    last_lane_ = last;
  last_context_ = can_share ? request.prompt_ids : std::vector<int32_t>{};
  return *last_lane_;
}

Coordinator::Lane* Coordinator::next_lane_with_credit() {
  for (size_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[(next_lane_ + i) % lanes_.size()];
    if (lane.credit == 0) continue;
    next_lane_ = (next_lane_ + i) % lanes_.size();
    return &lane;
  }
  return nullptr;
}

void Coordinator::tell_all(ToLane message) {
  for (const Lane& lane : lanes_) world_.post(lane.head, Tag::kToLane, dist::lane_message(message));
}

void Coordinator::report_tokens() {
  int64_t prompt_tokens = 0, output_tokens = 0;
  for (const Lane& lane : lanes_) {
    prompt_tokens += lane.counters.prompt_tokens;
    output_tokens += lane.counters.output_tokens;
  }
  progress_.set_tokens(prompt_tokens, output_tokens);
}

void Coordinator::check_silence() const {
  for (const Lane& lane : lanes_) {
    if (!lane.finished && Clock::now() - lane.last_heard > longest_silence_)
      throw Error("",
                  "rank 0 has heard nothing from rank " + std::to_string(lane.head) + " for " +
                      std::to_string(longest_silence_.count()) + " s",
                  "that rank or one of its replica is stalled; start the job again to resume");
  }
}

bool Coordinator::all_finished() const {
  return std::ranges::all_of(lanes_, &Lane::finished);
}

void Coordinator::wait_for_lanes() {
  while (true) {
    pump();
    if (all_finished()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace nemo::launch
