#include "dist/schedule/scheduler.h"

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "dist/schedule/request_progress.h"
#include "dist/schedule/running_set.h"
#include "kernels/error.h"

namespace nemo::dist {

namespace {
/// Tokens that are cheaper to draw again than to save early.
constexpr int64_t kWorthSaving = 256;
}  // namespace

struct Scheduler::State {
  struct StepInFlight {
    int64_t step;
    std::vector<SegmentInFlight> segments;
  };
  /// A request of which some sequences have not started; those before `next_index` have, or need not.
  struct Waiting {
    RequestProgress* progress;
    int64_t num_left;
    int64_t next_index = 0;
  };

  Sequence* start_next();
  void apply_segment(const SegmentInFlight& segment, const SegmentResult* result);

  SchedulerLimits limits;
  EndOfText end_of_text;
  const Tokenizer& tokenizer;
  RunningSet running;
  std::map<int64_t, RequestProgress> requests;  ///< by ticket; a map, because sequences point to them
  std::deque<Waiting> waiting;                  ///< first come, first served
  std::deque<StepInFlight> in_flight;           ///< oldest first
  std::vector<Record> finished;
  int64_t num_waiting = 0;  ///< sequences of `waiting` that have not started
  int64_t next_ticket = 0;
  int64_t next_age = 0;
  int64_t num_prompt_tokens = 0;
  int64_t num_output_tokens = 0;
};

Scheduler::Scheduler(SchedulerLimits limits, EndOfText end_of_text, const Tokenizer& tokenizer) {
  NEMO_CHECK(limits.max_sequences > 0 && limits.max_batch_tokens > 0 && limits.prefill_chunk > 0 &&
                 limits.max_context > 0 && limits.micro_batches > 0 && limits.kv_pages >= 0,
             "a limit of the scheduler is not positive");
  state_.reset(new State{.limits = limits,
                         .end_of_text = std::move(end_of_text),
                         .tokenizer = tokenizer,
                         .running = RunningSet(limits)});
}

Scheduler::~Scheduler() = default;

void Scheduler::add(Request request) {
  State& s = *state_;
  std::optional<RequestError> refusal = find_refusal(request, s.limits);
  const bool draws_nothing = request.task == Task::kGenerate && request.sampling.max_tokens <= 0;
  RequestProgress progress(s.next_ticket++, std::move(request), s.limits);
  if (refusal) {
    s.finished.push_back(progress.take_record(std::move(*refusal)));
    return;
  }
  if (draws_nothing) {
    Output nothing;
    nothing.finish_reason = "length";
    for (int64_t i = 0; i < progress.num_sequences(); ++i) progress.finish_sample(i, nothing);
  }
  if (progress.is_finished()) {
    s.finished.push_back(progress.take_record());
    return;
  }
  s.num_waiting += progress.num_unfinished();
  const auto place = s.requests.emplace(progress.ticket(), std::move(progress)).first;
  s.waiting.push_back({&place->second, place->second.num_unfinished()});
}

int64_t Scheduler::wanted() const {
  const State& s = *state_;
  const int64_t in_hand = std::max<int64_t>(1, s.limits.max_sequences / 2);
  const int64_t present = s.running.num_running() + s.running.num_preempted() + s.num_waiting;
  return std::max<int64_t>(0, s.limits.max_sequences + in_hand - present);
}

bool Scheduler::idle() const {
  const State& s = *state_;
  return s.requests.empty() && s.in_flight.empty();
}

StepMessage Scheduler::compose(int64_t step) {
  State& s = *state_;
  StepDraft draft;
  draft.message.step = step;
  draft.rows_left = s.limits.max_batch_tokens;
  s.running.compose_decodes(draft);
  while (s.start_next() != nullptr) {
    // Also those that will have no rows in this step: who begins like another may begin as a copy of it.
  }
  s.running.compose_prompts(draft);
  s.num_prompt_tokens += draft.num_prompt_rows;
  if (!draft.in_flight.empty()) s.in_flight.push_back({step, std::move(draft.in_flight)});
  return std::move(draft.message);
}

void Scheduler::apply(const StepResult& result) {
  State& s = *state_;
  const std::string step = "step " + std::to_string(result.step);
  if (s.in_flight.empty() || result.step < s.in_flight.front().step) {
    NEMO_CHECK(result.segments.empty(), step + " had no rows of this lane");
    return;
  }
  NEMO_CHECK(result.step == s.in_flight.front().step, step + " returns out of order");
  const State::StepInFlight landed = std::move(s.in_flight.front());
  s.in_flight.pop_front();
  auto answer = result.segments.begin();
  for (const SegmentInFlight& segment : landed.segments) {
    const SegmentResult* found = nullptr;
    if (segment.num_results > 0) {
      NEMO_CHECK(answer != result.segments.end() && answer->slot == segment.slot,
                 step + " lacks the result of slot " + std::to_string(segment.slot));
      found = &*answer++;
    }
    if (segment.sequence != nullptr) s.apply_segment(segment, found);
  }
  NEMO_CHECK(answer == result.segments.end(), step + " has a result that nobody waits for");
}

std::vector<Record> Scheduler::take_finished() {
  return std::exchange(state_->finished, {});
}

std::vector<SampleProgress> Scheduler::take_progress(Saving saving) {
  State& s = *state_;
  const int64_t least_tokens = saving == Saving::kEverything ? 1 : kWorthSaving;
  std::vector<SampleProgress> saved;
  s.running.save(least_tokens, saved);
  for (auto& [ticket, progress] : s.requests) progress.save_finished_samples(least_tokens, saved);
  return saved;
}

void Scheduler::abandon() {
  State& s = *state_;
  for (State::StepInFlight& step : s.in_flight) {
    for (SegmentInFlight& segment : step.segments) segment.sequence = nullptr;
  }
  s.running.clear();
  s.waiting.clear();
  s.requests.clear();
  s.num_waiting = 0;
}

Scheduler::Counters Scheduler::counters() const {
  const State& s = *state_;
  return {.prompt_tokens = s.num_prompt_tokens,
          .output_tokens = s.num_output_tokens,
          .preemptions = s.running.num_preemptions(),
          .running = s.running.num_running(),
          .queued = s.running.num_preempted() + s.num_waiting};
}

// Those that were preempted go first: whoever waits here has come later. Nobody overtakes one that finds no
// room, or a long prompt would never start.
Sequence* Scheduler::State::start_next() {
  if (running.num_preempted() > 0) return running.resume_oldest();
  if (waiting.empty()) return nullptr;
  Waiting& next = waiting.front();
  while (next.progress->is_sample_finished(next.next_index)) ++next.next_index;  // there is an unfinished one
  if (!running.has_room(next.progress->num_first_rows(next.next_index))) return nullptr;
  auto sequence = std::make_unique<Sequence>(*next.progress, next.next_index++, next_age++, limits,
                                             end_of_text, tokenizer);
  --num_waiting;
  if (--next.num_left == 0) waiting.pop_front();
  return &running.start(std::move(sequence));
}

void Scheduler::State::apply_segment(const SegmentInFlight& segment, const SegmentResult* result) {
  Sequence& sequence = *segment.sequence;
  num_output_tokens += segment.num_results;
  if (result == nullptr || !sequence.apply(*result)) {
    running.land(sequence);
    return;
  }
  RequestProgress& progress = sequence.progress();
  running.remove(sequence);
  if (!progress.is_finished()) return;
  finished.push_back(progress.take_record());
  requests.erase(progress.ticket());
}

}  // namespace nemo::dist
