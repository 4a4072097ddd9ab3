#include "dist/schedule/request_progress.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/ops/attention.h"

namespace nemo::dist {
namespace {

int64_t size_of(const std::vector<int32_t>& tokens) {
  return static_cast<int64_t>(tokens.size());
}

RequestError prompt_too_long(const char* name, int64_t num_tokens, const char* rule, int64_t limit) {
  return {"prompt_too_long", std::string(name) + " has " + std::to_string(num_tokens) + " tokens, but " +
                                 rule + " " + std::to_string(limit) + "; shorten it"};
}

std::optional<RequestError> lacks_context(const Request& request, const SchedulerLimits& limits) {
  const int64_t num_prompt = size_of(request.prompt_ids);
  if (request.task == Task::kScore) {
    if (num_prompt == 0) {
      return RequestError{"empty_context",
                          "nothing stands before the first token to score, so it has no probability; "
                          "give a context of at least one token, such as the beginning-of-text token"};
    }
    if (num_prompt <= limits.max_context) return std::nullopt;
    return prompt_too_long("the context", num_prompt, "the longest sequence has", limits.max_context);
  }
  if (num_prompt == 0) {
    return RequestError{"empty_prompt",
                        "the prompt has no tokens; give it at least one, such as the beginning-of-text "
                        "token"};
  }
  if (num_prompt < limits.max_context) return std::nullopt;
  return prompt_too_long("the prompt", num_prompt, "prompt and output together can have", limits.max_context);
}

}  // namespace

int64_t most_rows(const Request& request, const SchedulerLimits& limits) {
  const int64_t num_prompt = size_of(request.prompt_ids);
  const int64_t num_more = request.task == Task::kScore ? size_of(request.continuation_ids)
                                                        : std::max<int64_t>(request.sampling.max_tokens, 0);
  const int64_t most_tokens = request.task == Task::kScore ? limits.max_context + 1 : limits.max_context;
  return std::min(num_prompt + num_more, most_tokens) - 1;
}

std::optional<RequestError> find_refusal(const Request& request, const SchedulerLimits& limits) {
  if (request.task == Task::kScore && request.continuation_ids.empty())
    return std::nullopt;  // nothing to run
  if (auto error = lacks_context(request, limits)) return error;
  const int64_t capacity = limits.kv_pages * kernels::kKvPageTokens;
  const int64_t rows = most_rows(request, limits);
  if (!limits.needs_pages || rows <= capacity) return std::nullopt;
  return RequestError{
      std::string(kKvCacheTooSmall),
      "the sequence may grow to " + std::to_string(rows) + " tokens, but the KV cache has room for " +
          std::to_string(capacity) + " (" + std::to_string(limits.kv_pages) + " pages of " +
          std::to_string(kernels::kKvPageTokens) +
          "); ask for fewer max_tokens or a shorter text, or give the job more memory (limits.memory, "
          "more pipeline stages, or a smaller engine.max_sequences)"};
}

RequestProgress::RequestProgress(int64_t ticket, Request request, const SchedulerLimits& limits)
    : ticket_(ticket), request_(std::move(request)) {
  if (request_.task == Task::kScore) {
    logprobs_.resize(request_.continuation_ids.size());
    if (!request_.continuation_ids.empty() && !request_.prompt_ids.empty()) {
      windows_ =
          score_windows(size_of(request_.prompt_ids), size_of(request_.continuation_ids), limits.max_context);
    }
    num_sequences_ = static_cast<int64_t>(windows_.size());
  } else {
    outputs_.resize(static_cast<size_t>(std::max<int64_t>(request_.sampling.n, 0)));
    num_sequences_ = static_cast<int64_t>(outputs_.size());
    is_saved_.resize(outputs_.size(), false);
    request_.prior_outputs.resize(outputs_.size());
  }
  num_unfinished_ = num_sequences_;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (request_.prior_outputs[i].finish_reason.empty()) continue;
    is_saved_[i] = true;
    finish_sample(static_cast<int64_t>(i), std::move(request_.prior_outputs[i]));
  }
}

bool RequestProgress::is_sample_finished(int64_t index) const {
  return request_.task == Task::kGenerate && !outputs_[static_cast<size_t>(index)].finish_reason.empty();
}

std::vector<SampledToken> RequestProgress::prior_tokens(int64_t index) const {
  const Output& prior = request_.prior_outputs[static_cast<size_t>(index)];
  std::vector<SampledToken> tokens(prior.token_ids.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i].token_id = prior.token_ids[i];
    if (!prior.logprobs.empty()) tokens[i].logprob = prior.logprobs.at(i);
    if (!prior.top_logprobs.empty()) tokens[i].top = prior.top_logprobs.at(i);
  }
  return tokens;
}

void RequestProgress::save_finished_samples(int64_t least_tokens, std::vector<SampleProgress>& saved) {
  int64_t num_tokens = 0;
  for (size_t i = 0; i < is_saved_.size(); ++i)
    if (!is_saved_[i]) num_tokens += size_of(outputs_[i].token_ids);  // one that is running has none here
  if (num_tokens < least_tokens) return;
  for (size_t i = 0; i < is_saved_.size(); ++i) {
    if (is_saved_[i] || outputs_[i].token_ids.empty()) continue;
    saved.push_back({request_.index, static_cast<int64_t>(i), outputs_[i]});
    is_saved_[i] = true;
  }
}

int64_t RequestProgress::num_first_rows(int64_t index) const {
  if (request_.task == Task::kScore) return window(index).num_rows();
  return size_of(request_.prompt_ids) + size_of(request_.prior_outputs[static_cast<size_t>(index)].token_ids);
}

int32_t RequestProgress::token(int64_t i) const {
  const int64_t num_prompt = size_of(request_.prompt_ids);
  return i < num_prompt ? request_.prompt_ids[static_cast<size_t>(i)]
                        : request_.continuation_ids[static_cast<size_t>(i - num_prompt)];
}

void RequestProgress::finish_sample(int64_t index, Output output) {
  outputs_[static_cast<size_t>(index)] = std::move(output);
  --num_unfinished_;
}

void RequestProgress::set_scores(int64_t begin, std::span<const float> logprobs,
                                 std::span<const uint8_t> is_argmax) {
  std::copy(logprobs.begin(), logprobs.end(), logprobs_.begin() + (begin - size_of(request_.prompt_ids)));
  for (const uint8_t flag : is_argmax) is_greedy_ = is_greedy_ && flag != 0;
}

Record RequestProgress::take_record() {
  Record record;
  record.index = request_.index;
  record.id = std::move(request_.id);
  record.task = request_.task;
  record.form = request_.form;
  record.num_prompt_tokens = size_of(request_.prompt_ids);
  record.metadata_json = std::move(request_.metadata_json);
  if (request_.task == Task::kGenerate) {
    record.outputs = std::move(outputs_);
    return record;
  }
  Score& score = record.score.emplace();
  for (const float logprob : logprobs_) score.sum_logprob += logprob;
  score.is_greedy = is_greedy_;
  score.token_ids = std::move(request_.continuation_ids);
  score.logprobs = std::move(logprobs_);
  return record;
}

Record RequestProgress::take_record(RequestError error) {
  Record record = take_record();
  record.outputs.clear();
  record.score.reset();
  record.error = std::move(error);
  return record;
}

}  // namespace nemo::dist
