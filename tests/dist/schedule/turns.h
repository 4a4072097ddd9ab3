// A scheduler watched turn by turn: requests, what it composes as a line of text, and answers.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "dist/schedule/scheduler.h"
#include "tests/lib/sampling/letter_tokenizer.h"

namespace nemo::dist::testing {

inline Request prompt(int64_t index, int64_t num_tokens, SamplingParams sampling = {.max_tokens = 10}) {
  Request request;
  request.index = index;
  request.id = std::to_string(index);
  request.prompt_ids.assign(static_cast<size_t>(num_tokens), 1);
  request.sampling = std::move(sampling);
  return request;
}

inline Request score(int64_t num_context, int64_t num_continuation) {
  Request request = prompt(0, num_context);
  request.task = Task::kScore;
  for (int64_t i = 0; i < num_continuation; ++i)
    request.continuation_ids.push_back(static_cast<int32_t>(i % 26));
  return request;
}

inline Scheduler make(const SchedulerLimits& limits) {
  return {limits, {{nemo::testing::kEnd}}, nemo::testing::letter_tokenizer()};
}

/// "slot@position+rows", "!" if it samples, "<" and the slot that it is a copy of, "p" and the number of new
/// pages: one word a segment.
inline std::string show(const StepMessage& message) {
  std::string text;
  for (const StepSegment& segment : message.segments) {
    text += (text.empty() ? "" : " ") + std::to_string(segment.slot) + "@" +
            std::to_string(segment.position) + "+" + std::to_string(segment.token_ids.size()) +
            (segment.sample ? "!" : "");
    if (segment.fork_of) text += "<" + std::to_string(*segment.fork_of);
    if (!segment.new_pages.empty()) text += "p" + std::to_string(segment.new_pages.size());
  }
  return text;
}

/// Every sequence that asks gets `token_id`, every target the logprob -1 and the rank of likeliest.
inline StepResult answer(const StepMessage& message, int32_t token_id = 0) {
  StepResult result{.step = message.step, .segments = {}};
  for (const StepSegment& segment : message.segments) {
    SegmentResult one{.slot = segment.slot};
    if (segment.sample) one.sampled = SampledToken{token_id, -1, {}};
    for (const int32_t target : segment.targets) {
      if (target < 0) continue;
      one.target_logprobs.push_back(-1);
      one.target_is_argmax.push_back(1);
    }
    if (one.sampled || !one.target_logprobs.empty()) result.segments.push_back(one);
  }
  return result;
}

/// Composes a step, shows it and answers it at once.
inline std::string turn(Scheduler& scheduler, int64_t step, int32_t token_id = 0) {
  const StepMessage message = scheduler.compose(step);
  if (!message.segments.empty()) scheduler.apply(answer(message, token_id));
  return show(message);
}

}  // namespace nemo::dist::testing
