// Sequence: the host's record of one sample or one window while it is run: which tokens become rows, how far
// it is, and where its state lies. Knows no other sequence.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <set>
#include <vector>

#include "dist/schedule/request_progress.h"
#include "dist/schedule/step_message.h"
#include "lib/sampling/completion.h"

namespace nemo::dist {

/// What of the lane a running sequence holds. Kept by RunningSet.
struct Placement {
  int32_t slot = -1;
  std::vector<int32_t> pages;                        ///< owned, in the order of positions
  int64_t num_told_pages = 0;                        ///< of them, those the stages know
  int64_t num_in_flight = 0;                         ///< segments whose results are due
  std::list<class Sequence*>::iterator ready_place;  ///< valid if is_ready
  bool is_ready = false;                             ///< its next row is a drawn token
  int64_t last_step = -1;                            ///< that had rows of it
  class Sequence* fork_source = nullptr;             ///< it waits to begin as a copy of this older one
  int64_t fork_rows = 0;                             ///< which has so many rows then
  std::multiset<int64_t> forks_due;                  ///< fork_rows of those that wait for this one
};

class Sequence {
 public:
  /// Sequence `index` of `progress`, which must outlive it. `age` orders all sequences of a lane: lower is
  /// older.
  Sequence(RequestProgress& progress, int64_t index, int64_t age, const SchedulerLimits& limits,
           const EndOfText& end_of_text, const Tokenizer& tokenizer);

  int64_t age() const { return age_; }
  RequestProgress& progress() const { return progress_; }

  /// Rows known so far: a generated token becomes known with its result.
  int64_t num_rows() const;
  int64_t num_composed() const { return num_composed_; }
  int64_t num_remaining() const { return num_rows() - num_composed_; }

  /// First rows that are alike in both, and of which neither asks anything: a state after them serves both.
  int64_t num_shared_rows(const Sequence& other) const;
  /// Its state begins as a copy that has the first `num_rows` rows: they are not composed. Nothing was yet.
  void skip_rows(int64_t num_rows);

  /// The next `rows` rows, without slot and pages. The last known row of a generate sequence samples.
  StepSegment next_segment(int64_t rows);

  /// The result of the oldest segment that is due. True if the sequence is done; its progress knows.
  bool apply(const SegmentResult& result);

  /// Adds what is drawn so far to `saved` if `least_tokens` tokens were drawn since the last time. A long
  /// output must have grown by a quarter besides, so that all its saves together are a few times its length,
  /// not its square; unless `least_tokens` is 1: the last occasion.
  void save(int64_t least_tokens, std::vector<SampleProgress>& saved);

  /// Its state is gone: all rows must be composed again, drawn tokens included.
  void restart();

  Placement placement;

 private:
  bool is_score() const { return !completion_.has_value(); }
  int64_t num_plain_rows() const;
  int32_t token(int64_t row) const;
  void add_targets(StepSegment& segment) const;
  bool apply_score(const SegmentResult& result);
  bool apply_sample(const SegmentResult& result);

  RequestProgress& progress_;
  int64_t index_;
  int64_t age_;
  ScoreWindow window_;  ///< score only
  SamplingKey key_;     ///< generate only
  std::optional<Completion> completion_;
  int64_t num_composed_ = 0;
  int64_t num_skipped_ = 0;  ///< rows that came with a copied state; they count as composed
  int64_t num_scored_ = 0;
  int64_t num_saved_ = 0;  ///< drawn tokens that are in the journal
};

}  // namespace nemo::dist
