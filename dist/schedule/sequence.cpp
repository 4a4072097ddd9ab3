#include "dist/schedule/sequence.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/error.h"

namespace nemo::dist {

Sequence::Sequence(RequestProgress& progress, int64_t index, int64_t age, const SchedulerLimits& limits,
                   const EndOfText& end_of_text, const Tokenizer& tokenizer)
    : progress_(progress), index_(index), age_(age) {
  if (progress.request().task == Task::kScore) {
    window_ = progress.window(index);
    return;
  }
  key_ = make_sampling_key(progress.request(), index, end_of_text.eos_token_ids);
  const std::vector<SampledToken> prior = progress.prior_tokens(index);
  completion_.emplace(key_, limits.max_context, tokenizer, prior);
  num_saved_ = static_cast<int64_t>(prior.size());
  // What ends a text is decided here; the last stage need not know it.
  key_.params.stop.clear();
  key_.params.stop_token_ids.clear();
}

int64_t Sequence::num_rows() const {
  if (is_score()) return window_.num_rows();
  return key_.num_prompt_tokens + static_cast<int64_t>(completion_->token_ids().size());
}

int32_t Sequence::token(int64_t row) const {
  if (is_score()) return progress_.token(window_.begin + row);
  if (row < key_.num_prompt_tokens) return progress_.token(row);
  return completion_->token_ids()[static_cast<size_t>(row - key_.num_prompt_tokens)];
}

// Before the first row that has a target or draws.
int64_t Sequence::num_plain_rows() const {
  return (is_score() ? window_.first_predicted - window_.begin : key_.num_prompt_tokens) - 1;
}

// A copied state includes the sampler's, which keeps what penalties need only if there are any.
int64_t Sequence::num_shared_rows(const Sequence& other) const {
  if (is_score() != other.is_score() || has_penalties(key_.params) != has_penalties(other.key_.params))
    return 0;
  const int64_t most = std::min(num_plain_rows(), other.num_plain_rows());
  int64_t count = 0;
  while (count < most && token(count) == other.token(count)) ++count;
  return count;
}

void Sequence::skip_rows(int64_t num_rows) {
  NEMO_CHECK(num_composed_ == 0, std::to_string(num_composed_) + " rows composed");
  num_composed_ = num_skipped_ = num_rows;
}

StepSegment Sequence::next_segment(int64_t rows) {
  NEMO_CHECK(rows > 0 && rows <= num_remaining(),
             std::to_string(rows) + " rows of " + std::to_string(num_remaining()));
  StepSegment segment;
  segment.position = num_composed_;
  segment.token_ids.reserve(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) segment.token_ids.push_back(token(num_composed_ + i));
  if (is_score()) {
    add_targets(segment);
  } else {
    if (num_composed_ == num_skipped_) segment.start = key_;
    segment.sample = rows == num_remaining();
  }
  num_composed_ += rows;
  return segment;
}

// The row of text token i asks for text token i + 1.
void Sequence::add_targets(StepSegment& segment) const {
  const auto rows = static_cast<int64_t>(segment.token_ids.size());
  const int64_t first_asked = window_.begin + segment.position + 1;
  if (first_asked + rows <= window_.first_predicted) return;
  for (int64_t i = first_asked; i < first_asked + rows; ++i) {
    segment.targets.push_back(i < window_.first_predicted ? -1 : progress_.token(i));
  }
}

bool Sequence::apply(const SegmentResult& result) {
  return is_score() ? apply_score(result) : apply_sample(result);
}

bool Sequence::apply_score(const SegmentResult& result) {
  const auto count = static_cast<int64_t>(result.target_logprobs.size());
  const int64_t num_wanted = window_.end - window_.first_predicted;
  NEMO_CHECK(count > 0 && num_scored_ + count <= num_wanted &&
                 result.target_is_argmax.size() == result.target_logprobs.size(),
             std::to_string(count) + " scores, " + std::to_string(num_scored_) + " of " +
                 std::to_string(num_wanted) + " before");
  progress_.set_scores(window_.first_predicted + num_scored_, result.target_logprobs,
                       result.target_is_argmax);
  num_scored_ += count;
  if (num_scored_ < num_wanted) return false;
  progress_.finish_window();
  return true;
}

bool Sequence::apply_sample(const SegmentResult& result) {
  NEMO_CHECK(result.sampled.has_value(), "slot " + std::to_string(result.slot) + " answers without a token");
  if (completion_->push(*result.sampled) == CompletionStatus::kRunning) return false;
  progress_.finish_sample(index_, completion_->take());
  return true;
}

void Sequence::save(int64_t least_tokens, std::vector<SampleProgress>& saved) {
  if (is_score()) return;
  const auto num_tokens = static_cast<int64_t>(completion_->token_ids().size());
  const int64_t num_new = num_tokens - num_saved_;
  if (num_new < least_tokens || (least_tokens > 1 && num_new < num_saved_ / 4)) return;
  SampleProgress& progress =
      saved.emplace_back(SampleProgress{progress_.request().index, index_, completion_->output()});
  progress.output.text.clear();  // follows from the tokens
  num_saved_ = num_tokens;
}

void Sequence::restart() {
  num_composed_ = 0;
  num_skipped_ = 0;
  num_scored_ = 0;
}

}  // namespace nemo::dist
