// The scheduler of one lane: continuous batching with chunked prefill over a fixed number of slots and KV
// pages. Knows no tensor and no MPI; a pure state machine, tested by table. Its choices change speed, never
// results.
//
//   requests --add--> waiting --start--> running --apply--> records
//                        ^                  |
//                        +--- preempted <---+   gave its pages to an older one; is run again from its tokens
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "dist/schedule/step_message.h"
#include "lib/request/request.h"
#include "lib/text/tokenizer.h"

namespace nemo::dist {

struct SchedulerLimits {
  int64_t max_sequences = 1;       ///< slots
  int64_t max_batch_tokens = 512;  ///< rows a step
  int64_t prefill_chunk = 256;     ///< rows one prompt takes in one step
  int64_t kv_pages = 1;            ///< pages of kernels::kKvPageTokens tokens, shared by all slots
  bool needs_pages = true;         ///< false for a model without attention layers
  int64_t max_context = 4096;      ///< longest sequence, prompt and output
  int64_t micro_batches = 1;       ///< steps in flight, each with an equal share of the running sequences
};

/// What a model says about ends of text.
struct EndOfText {
  std::vector<int32_t> eos_token_ids;
};

/// The code of the one refusal that depends on memory and layout and is therefore no result: the coordinator
/// keeps it out of the journal, and the job can be started again with more.
inline constexpr std::string_view kKvCacheTooSmall = "kv_cache_too_small";

/// First rows that sequences must have in common to share them: a copied state costs as much as a few rows.
inline constexpr int64_t kLeastSharedRows = 16;

class Scheduler {
 public:
  /// `tokenizer` must outlive the scheduler (text of outputs, stop strings).
  Scheduler(SchedulerLimits limits, EndOfText end_of_text, const Tokenizer& tokenizer);
  ~Scheduler();

  /// Takes a request. One that can never run finishes at once with an error record: "empty_prompt",
  /// "empty_context", "prompt_too_long", "kv_cache_too_small". Scoring text beyond max_context works in
  /// rolling windows.
  void add(Request request);

  /// How many more sequences the lane wants: as many as it has slots and half as many in hand, so that a slot
  /// never waits for the coordinator, yet at the end of a job no lane hoards what others could do.
  int64_t wanted() const;

  /// Nothing queued, running or in flight.
  bool idle() const;

  /// The rows of the next step; empty if nothing can run now (all in flight, or nothing there).
  StepMessage compose(int64_t step);

  /// The result of an earlier composed step; steps return in the order they were composed. Every step with
  /// rows must return, also one that asked for nothing. Throws Error for a result that does not belong to its
  /// step.
  void apply(const StepResult& result);

  /// Requests finished since the last call.
  std::vector<Record> take_finished();

  /// Which unfinished work take_progress gives.
  enum class Saving {
    kWorthwhile,  ///< long outputs that have grown much since the last time
    kEverything,  ///< whatever has grown: a stop was asked for
  };
  /// What is to be saved of the requests under way; the same tokens are not given twice for nothing.
  std::vector<SampleProgress> take_progress(Saving saving);

  /// Forgets everything that is not finished (a stop was asked for). In-flight results may still be applied.
  void abandon();

  /// Counters for progress.
  struct Counters {
    int64_t prompt_tokens = 0;  ///< rows prefilled (again after preemption counts)
    int64_t output_tokens = 0;  ///< tokens drawn or scored
    int64_t preemptions = 0;
    int64_t running = 0;
    int64_t queued = 0;
  };
  Counters counters() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nemo::dist
