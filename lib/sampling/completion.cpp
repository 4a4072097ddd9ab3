#include "lib/sampling/completion.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/error.h"

namespace nemo {

SamplingKey make_sampling_key(const Request& request, int64_t sample,
                              std::span<const int32_t> eos_token_ids) {
  SamplingKey key;
  key.params = request.sampling;
  key.request_hash = hash_request_id(request.id);
  key.sample = sample;
  key.num_prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  key.end_token_ids = request.sampling.stop_token_ids;
  if (!request.sampling.ignore_eos) {
    key.end_token_ids.insert(key.end_token_ids.end(), eos_token_ids.begin(), eos_token_ids.end());
  }
  return key;
}

Completion::Completion(const SamplingKey& key, int64_t max_context, const Tokenizer& tokenizer,
                       std::span<const SampledToken> prior)
    : min_tokens_(key.params.min_tokens),
      most_tokens_(std::min(key.params.max_tokens, max_context - key.num_prompt_tokens)),
      keeps_logprobs_(key.params.logprobs > 0),
      end_token_ids_(key.end_token_ids),
      detokenizer_(tokenizer),
      stop_matcher_(key.params.stop) {
  finish_if_full();
  for (const SampledToken& drawn : prior) push(drawn);
}

CompletionStatus Completion::push(const SampledToken& drawn) {
  NEMO_CHECK(status() == CompletionStatus::kRunning,
             "token " + std::to_string(drawn.token_id) + " after the end");
  const bool may_stop = num_tokens() >= min_tokens_;
  record(drawn);
  if (may_stop && is_end_token(drawn.token_id)) {
    end_text();
    output_.finish_reason = "stop";
  } else {
    append(detokenizer_.push(drawn.token_id), may_stop);
    finish_if_full();
  }
  return status();
}

Output Completion::take() {
  NEMO_CHECK(status() == CompletionStatus::kFinished, "the output is still growing");
  return std::move(output_);
}

bool Completion::is_end_token(int32_t token_id) const {
  return std::find(end_token_ids_.begin(), end_token_ids_.end(), token_id) != end_token_ids_.end();
}

void Completion::record(const SampledToken& drawn) {
  output_.token_ids.push_back(drawn.token_id);
  if (!keeps_logprobs_) return;
  output_.logprobs.push_back(drawn.logprob);
  output_.top_logprobs.push_back(drawn.top);
}

// Text that must not stop passes by the matcher, which so never sees half of a stop string in it.
void Completion::append(std::string piece, bool may_stop) {
  if (!may_stop) {
    output_.text += piece;
    return;
  }
  const StopMatcher::Result certain = stop_matcher_.push(piece);
  output_.text += certain.text;
  if (certain.stopped) output_.finish_reason = "stop";
}

// What detokenizer and matcher hold back becomes text; even that may complete a stop string.
void Completion::end_text() {
  append(detokenizer_.flush(), num_tokens() > min_tokens_);
  if (status() == CompletionStatus::kRunning) output_.text += stop_matcher_.flush();
}

void Completion::finish_if_full() {
  if (status() == CompletionStatus::kFinished || num_tokens() < most_tokens_) return;
  end_text();
  if (status() == CompletionStatus::kRunning) output_.finish_reason = "length";
}

}  // namespace nemo
