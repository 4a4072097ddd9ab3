// RunningSet: the sequences that hold a slot, the slots and pages they hold, and the ones that had to give
// theirs up. Chooses the rows of a step among them.
//
// Slots and pages that a sequence gives up are free at once, although the stages may still hold its state.
// That is safe: a sequence gives them up only when none of its results is due, and a new owner's rows travel
// in a later step, which every stage of the lane runs after all earlier ones.
//
// Sequences that begin alike (samples of a request, choices for a context, a prompt's examples) share that
// work: the oldest goes through it and waits there until the others that hold a slot have begun as copies of
// its state. It is not preempted meanwhile, being older than they are.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "dist/schedule/id_pool.h"
#include "dist/schedule/scheduler.h"
#include "dist/schedule/sequence.h"

namespace nemo::dist {

/// A segment on its way through the stages.
struct SegmentInFlight {
  Sequence* sequence;  ///< nullptr: abandoned meanwhile
  int32_t slot;
  int64_t num_results;  ///< tokens that its result has; 0 = it has no result
};

/// A step while it is composed.
struct StepDraft {
  StepMessage message;
  std::vector<SegmentInFlight> in_flight;  ///< one for each segment of the message
  int64_t rows_left = 0;
  int64_t num_prompt_rows = 0;
};

class RunningSet {
 public:
  explicit RunningSet(const SchedulerLimits& limits);

  int64_t num_running() const { return num_running_; }
  int64_t num_preempted() const { return static_cast<int64_t>(preempted_.size()); }
  int64_t num_preemptions() const { return num_preemptions_; }

  /// Whether a sequence of so many rows can start now. It then has the pages of all of them, so that a
  /// prompt, once begun, is never stuck half-way; some pages are left for the outputs that are growing.
  bool has_room(int64_t num_rows) const;

  /// Starts a sequence for which there is room.
  Sequence& start(std::unique_ptr<Sequence> sequence);

  /// Starts the oldest preempted one, of which there must be one. nullptr if there is no room for it.
  Sequence* resume_oldest();

  /// One row for sequences that wait to go on, in the order in which they came to wait, for about 1 /
  /// micro_batches of them. One that needs a page may take it from a younger sequence, which is preempted,
  /// but never from an older one: so the oldest always gets on, and everything ends.
  void compose_decodes(StepDraft& draft);

  /// A chunk of every prompt that is under way, oldest first, as far as rows are left. It need not wait for
  /// the results of the chunks before. A prompt may also have to wait: see above.
  void compose_prompts(StepDraft& draft);

  /// A segment has come back and its result, if any, was applied.
  void land(Sequence& sequence);

  /// Ends a sequence that has nothing in flight.
  void remove(Sequence& sequence);

  /// Sequence::save for all, running and preempted.
  void save(int64_t least_tokens, std::vector<SampleProgress>& saved) const;

  /// Ends all.
  void clear();

 private:
  int64_t pages_for(int64_t num_rows) const;
  void find_fork_source(Sequence& sequence) const;
  int64_t num_rows_now(const Sequence& sequence, int64_t step) const;
  bool give_pages(Sequence& sequence, int64_t num_rows);
  bool preempt_younger_than(const Sequence& sequence);
  std::unique_ptr<Sequence> release(Sequence& sequence);
  void compose_prompt(Sequence& sequence, StepDraft& draft);
  void compose(Sequence& sequence, int64_t rows, StepDraft& draft);
  void end_wait_for_fork(Sequence& sequence);

  SchedulerLimits limits_;
  IdPool free_slots_, free_pages_;
  std::vector<std::unique_ptr<Sequence>> by_slot_;          ///< the running ones; nullptr = free slot
  std::map<int64_t, std::unique_ptr<Sequence>> preempted_;  ///< by age
  std::map<int64_t, Sequence*> prompts_;                    ///< by age: with prompt rows not yet composed
  std::map<int64_t, Sequence*> landed_;                     ///< by age: with nothing in flight
  std::list<Sequence*> ready_;  ///< with a drawn token to go on from, longest waiting first
  int64_t num_running_ = 0;
  int64_t num_preemptions_ = 0;
};

}  // namespace nemo::dist
