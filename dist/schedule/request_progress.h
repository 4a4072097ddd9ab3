// RequestProgress: a request on its way to its record. It is run as independent sequences (the samples of a
// generate request, the windows of a score request) and finished when all of them are.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dist/schedule/scheduler.h"
#include "lib/request/request.h"
#include "lib/sampling/sampler.h"
#include "lib/sampling/score_windows.h"

namespace nemo::dist {

/// Rows that the longest sequence `request` can become has: the last token of an output needs none.
int64_t most_rows(const Request& request, const SchedulerLimits& limits);

/// Why `request` can never run within `limits`, if so.
std::optional<RequestError> find_refusal(const Request& request, const SchedulerLimits& limits);

class RequestProgress {
 public:
  /// `ticket` is the scheduler's own number for it. `request` has no refusal, unless it is to be refused
  /// next. Samples that its prior outputs finish are finished.
  RequestProgress(int64_t ticket, Request request, const SchedulerLimits& limits);

  const Request& request() const { return request_; }
  int64_t ticket() const { return ticket_; }
  int64_t num_sequences() const { return num_sequences_; }
  int64_t num_unfinished() const { return num_unfinished_; }
  /// Whether sequence `index` is a sample that is finished; windows never are.
  bool is_sample_finished(int64_t index) const;
  /// What an earlier run had drawn of sample `index`.
  std::vector<SampledToken> prior_tokens(int64_t index) const;
  /// Rows with which sequence `index` starts.
  int64_t num_first_rows(int64_t index) const;
  const ScoreWindow& window(int64_t index) const { return windows_[static_cast<size_t>(index)]; }

  /// Context and continuation, or prompt, as one array.
  int32_t token(int64_t i) const;

  /// Sequence `index` of a generate request is done.
  void finish_sample(int64_t index, Output output);
  /// The scores of text tokens [begin, begin + logprobs.size()); giving the same tokens again is harmless.
  void set_scores(int64_t begin, std::span<const float> logprobs, std::span<const uint8_t> is_argmax);
  /// One window of a score request is done.
  void finish_window() { --num_unfinished_; }

  /// Adds the finished samples that are not saved yet to `saved`, if together they have at least
  /// `least_tokens` tokens: those of a request of which other samples are running would be lost in a crash.
  void save_finished_samples(int64_t least_tokens, std::vector<SampleProgress>& saved);

  bool is_finished() const { return num_unfinished_ == 0; }
  /// Uses the progress up.
  Record take_record();
  Record take_record(RequestError error);

 private:
  int64_t ticket_;
  Request request_;
  std::vector<ScoreWindow> windows_;  ///< score only
  int64_t num_sequences_ = 0;
  int64_t num_unfinished_ = 0;
  std::vector<Output> outputs_;
  std::vector<bool> is_saved_;  ///< of each sample: that it is finished is in the journal
  std::vector<float> logprobs_;
  bool is_greedy_ = true;
};

}  // namespace nemo::dist
