#include "dist/schedule/running_set.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/error.h"
#include "kernels/ops/attention.h"

namespace nemo::dist {
namespace {

/// Sequences that are compared with a new one: a bound on that work, whatever comes.
constexpr int64_t kMostSources = 64;

}  // namespace

RunningSet::RunningSet(const SchedulerLimits& limits)
    : limits_(limits),
      free_slots_(limits.max_sequences),
      free_pages_(limits.needs_pages ? limits.kv_pages : 0),
      by_slot_(static_cast<size_t>(limits.max_sequences)) {}

int64_t RunningSet::pages_for(int64_t num_rows) const {
  if (!limits_.needs_pages) return 0;
  return kernels::kv_pages_of(num_rows);
}

// Half a page for each running sequence lasts for some thirty steps. Without it, whoever starts into the last
// free pages is preempted in the next step and its prompt was for nothing. Nobody running means nothing to
// leave: so any sequence that fits at all will start.
bool RunningSet::has_room(int64_t num_rows) const {
  if (free_slots_.num_free() == 0) return false;
  if (!limits_.needs_pages) return true;
  return free_pages_.num_free() >= pages_for(num_rows) + num_running_ / 2;
}

Sequence& RunningSet::start(std::unique_ptr<Sequence> sequence) {
  Sequence& started = *sequence;
  started.placement.slot = free_slots_.take();
  NEMO_CHECK(give_pages(started, started.num_rows()), "a sequence was started without room");
  find_fork_source(started);
  prompts_.emplace(started.age(), &started);
  landed_.emplace(started.age(), &started);
  by_slot_[static_cast<size_t>(started.placement.slot)] = std::move(sequence);
  ++num_running_;
  return started;
}

// Only an older one: the youngest is preempted first, so a source outlasts who waits for it. The youngest of
// them are asked, as what begins alike mostly comes together.
void RunningSet::find_fork_source(Sequence& sequence) const {
  Placement& placement = sequence.placement;
  int64_t num_asked = 0, most_rows = kLeastSharedRows - 1;
  for (auto place = prompts_.lower_bound(sequence.age()); place != prompts_.begin();) {
    if (++num_asked > kMostSources) break;
    Sequence* source = (--place)->second;
    const int64_t rows = sequence.num_shared_rows(*source);
    // One that begins as a copy itself, with these rows or more, never stands there; its own source does.
    while (source->placement.fork_source != nullptr && source->placement.fork_rows >= rows)
      source = source->placement.fork_source;
    // One that already stands there waits for no more than came in time, or it might wait forever.
    if (rows <= most_rows || source->num_composed() >= rows) continue;
    most_rows = placement.fork_rows = rows;
    placement.fork_source = source;
  }
  if (placement.fork_source != nullptr)
    placement.fork_source->placement.forks_due.insert(placement.fork_rows);
}

/// Rows of a prompt that may be composed in this step, if there is room. A copy is of a state that an earlier
/// step has made.
int64_t RunningSet::num_rows_now(const Sequence& sequence, int64_t step) const {
  const Placement& placement = sequence.placement;
  int64_t begin = sequence.num_composed();
  if (const Sequence* source = placement.fork_source) {
    begin = placement.fork_rows;
    if (source->num_composed() != begin || source->placement.last_step >= step) return 0;
  }
  return (placement.forks_due.empty() ? sequence.num_rows() : *placement.forks_due.begin()) - begin;
}

Sequence* RunningSet::resume_oldest() {
  if (!has_room(preempted_.begin()->second->num_rows())) return nullptr;
  auto node = preempted_.extract(preempted_.begin());
  return &start(std::move(node.mapped()));
}

void RunningSet::compose_decodes(StepDraft& draft) {
  const int64_t num_decoding = num_running_ - static_cast<int64_t>(prompts_.size());
  const int64_t share = (num_decoding + limits_.micro_batches - 1) / limits_.micro_batches;
  const int64_t most_rows = std::min(share, draft.rows_left);
  int64_t rows = 0;
  // A preemption may take any other sequence out of the list, so the next place is looked up after it.
  for (auto place = ready_.begin(); place != ready_.end() && rows < most_rows;) {
    Sequence& sequence = **place;
    if (!give_pages(sequence, sequence.num_composed() + 1)) {
      ++place;  // all younger ones are in flight: it keeps its place and is first when they land
      continue;
    }
    place = ready_.erase(place);
    sequence.placement.is_ready = false;
    compose(sequence, 1, draft);
    ++rows;
  }
}

void RunningSet::compose_prompts(StepDraft& draft) {
  for (auto place = prompts_.begin(); place != prompts_.end() && draft.rows_left > 0;) {
    Sequence& sequence = *(place++)->second;  // it leaves the map with its last chunk
    compose_prompt(sequence, draft);
  }
}

void RunningSet::compose_prompt(Sequence& sequence, StepDraft& draft) {
  const int64_t rows =
      std::min({limits_.prefill_chunk, num_rows_now(sequence, draft.message.step), draft.rows_left});
  if (rows == 0) return;
  compose(sequence, rows, draft);
  draft.num_prompt_rows += rows;
  if (sequence.num_remaining() == 0) prompts_.erase(sequence.age());
}

void RunningSet::compose(Sequence& sequence, int64_t rows, StepDraft& draft) {
  Placement& placement = sequence.placement;
  const Sequence* source = placement.fork_source;
  if (source != nullptr) sequence.skip_rows(placement.fork_rows);
  StepSegment segment = sequence.next_segment(rows);
  segment.slot = placement.slot;
  if (source != nullptr) segment.fork_of = source->placement.slot;
  end_wait_for_fork(sequence);
  placement.last_step = draft.message.step;
  const int64_t num_pages = pages_for(sequence.num_composed());
  for (; placement.num_told_pages < num_pages; ++placement.num_told_pages) {
    segment.new_pages.push_back(placement.pages[static_cast<size_t>(placement.num_told_pages)]);
  }
  if (placement.num_in_flight++ == 0) landed_.erase(sequence.age());
  const auto num_targets =
      std::count_if(segment.targets.begin(), segment.targets.end(), [](int32_t id) { return id >= 0; });
  draft.in_flight.push_back({&sequence, placement.slot, segment.sample ? 1 : num_targets});
  draft.message.segments.push_back(std::move(segment));
  draft.rows_left -= rows;
}

void RunningSet::land(Sequence& sequence) {
  Placement& placement = sequence.placement;
  if (--placement.num_in_flight > 0) return;
  landed_.emplace(sequence.age(), &sequence);
  if (prompts_.contains(sequence.age())) return;
  placement.ready_place = ready_.insert(ready_.end(), &sequence);
  placement.is_ready = true;
}

void RunningSet::remove(Sequence& sequence) {
  release(sequence);
}

void RunningSet::save(int64_t least_tokens, std::vector<SampleProgress>& saved) const {
  for (const auto& sequence : by_slot_) {
    if (sequence) sequence->save(least_tokens, saved);
  }
  for (const auto& [age, sequence] : preempted_) sequence->save(least_tokens, saved);
}

void RunningSet::clear() {
  for (auto& sequence : by_slot_) {
    if (sequence) end_wait_for_fork(*sequence);
  }
  for (auto& sequence : by_slot_) {
    if (sequence) release(*sequence);
  }
  preempted_.clear();
}

void RunningSet::end_wait_for_fork(Sequence& sequence) {
  Sequence* const source = std::exchange(sequence.placement.fork_source, nullptr);
  if (source == nullptr) return;
  std::multiset<int64_t>& forks = source->placement.forks_due;
  forks.erase(forks.find(sequence.placement.fork_rows));
}

// The pages of a row at position `num_rows` - 1 and all before it.
bool RunningSet::give_pages(Sequence& sequence, int64_t num_rows) {
  std::vector<int32_t>& pages = sequence.placement.pages;
  const int64_t num_pages = pages_for(num_rows);
  while (static_cast<int64_t>(pages.size()) < num_pages) {
    if (free_pages_.num_free() == 0 && !preempt_younger_than(sequence)) return false;
    pages.push_back(free_pages_.take());
  }
  return true;
}

bool RunningSet::preempt_younger_than(const Sequence& sequence) {
  if (landed_.empty() || landed_.rbegin()->first <= sequence.age()) return false;
  Sequence& youngest = *landed_.rbegin()->second;
  std::unique_ptr<Sequence> owner = release(youngest);
  if (owner->num_composed() > 0) ++num_preemptions_;  // else no work was lost
  owner->restart();
  preempted_.emplace(owner->age(), std::move(owner));
  return true;
}

std::unique_ptr<Sequence> RunningSet::release(Sequence& sequence) {
  Placement& placement = sequence.placement;
  std::unique_ptr<Sequence> owner = std::move(by_slot_[static_cast<size_t>(placement.slot)]);
  NEMO_CHECK(owner.get() == &sequence,
             "slot " + std::to_string(placement.slot) + " belongs to another sequence");
  NEMO_CHECK(placement.forks_due.empty(), "a sequence is gone of which others wait to be copies");
  end_wait_for_fork(sequence);
  for (const int32_t page : placement.pages) free_pages_.give_back(page);
  free_slots_.give_back(placement.slot);
  if (placement.is_ready) ready_.erase(placement.ready_place);
  prompts_.erase(sequence.age());
  landed_.erase(sequence.age());
  placement = {};
  --num_running_;
  return owner;
}

}  // namespace nemo::dist
