// Draws the next token of a sequence from its logits. A counter-based generator keyed by (seed, request id, sample,
// output position) makes a draw independent of batch, lane and history of other requests.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/ops/logits.h"
#include "lib/request/request.h"

namespace nemo {

/// Everything that decides the draws of one sequence; travels to the last stage when the sequence starts.
struct SamplingKey {
  SamplingParams params;
  uint64_t request_hash = 0;              ///< of the request's id (see hash_request_id)
  int64_t sample = 0;                     ///< which of the n samples
  int64_t num_prompt_tokens = 0;          ///< tokens from this position on are output
  std::vector<int32_t> end_token_ids;     ///< eos and stop ids: not drawn before min_tokens
};

/// A 64-bit hash of the id, the same on every machine.
uint64_t hash_request_id(std::string_view id);

/// logprobs are those of the model's own distribution (before temperature, penalties and filters), so that scoring the
/// same tokens later gives the same numbers to the bit.
struct SampledToken {
  int32_t token_id = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;  ///< params.logprobs of them, likeliest first, ties to the lower id
};

/// The sampling state of one sequence: its key and, where penalties need them, the tokens it has seen.
class Sampler {
 public:
  explicit Sampler(SamplingKey key);

  /// Tells the sampler of the tokens at [position, position + token_ids.size()), each position once, in order.
  void observe(int64_t position, std::span<const int32_t> token_ids);

  /// Draws the token at `position`. logits [vocab_size] is scratch afterwards. Steps: penalties, min_tokens,
  /// temperature, top_k, top_p, min_p, inverse of the cumulative distribution in rising token id. Greedy = argmax after penalties.
  SampledToken sample(std::span<float> logits, const kernels::LogitStats& stats, int64_t position) const;

 private:
  SamplingKey key_;
  std::unordered_map<int32_t, int32_t> prompt_counts_, output_counts_;
};

}  // namespace nemo
