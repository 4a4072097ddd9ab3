// What a lane's head tells the other stages of its lane to do in one step, and what the last stage answers.
// Plain values; bytes on the wire are made by to_bytes / *_from_bytes, which refuse anything malformed with
// Error and take no more memory than a small multiple of the bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/sampling/sampler.h"

namespace nemo::dist {

/// The rows of one sequence in a step.
struct StepSegment {
  int32_t slot = 0;
  int64_t position = 0;            ///< tokens already in the slot's state; 0 = the slot starts afresh
  std::vector<int32_t> token_ids;  ///< one row each
  std::vector<int32_t> new_pages;  ///< KV pages to append to the slot's page table before the step
  std::optional<int32_t>
      fork_of;  ///< the slot first becomes a copy of this one, which holds `position` tokens
  std::optional<SamplingKey> start;  ///< at position 0 and in a fork: who samples from this slot from now on
  bool sample = false;               ///< draw the token that follows the last row
  std::vector<int32_t> targets;  ///< score: the token that follows each row, -1 = not wanted; empty = none
};

struct StepMessage {
  int64_t step = 0;
  bool stop = false;  ///< no step: the engine ends here
  std::vector<StepSegment> segments;

  int64_t num_rows() const;
};

/// One per segment that sampled or had targets, in the message's order.
struct SegmentResult {
  int32_t slot = 0;
  std::optional<SampledToken> sampled;
  std::vector<float> target_logprobs;     ///< of the wanted targets, in row order
  std::vector<uint8_t> target_is_argmax;  ///< 1 where the target was the likeliest token
};

struct StepResult {
  int64_t step = 0;
  std::vector<SegmentResult> segments;
};

std::string to_bytes(const StepMessage& message);
StepMessage step_message_from_bytes(std::string_view bytes);
std::string to_bytes(const StepResult& result);
StepResult step_result_from_bytes(std::string_view bytes);

}  // namespace nemo::dist
