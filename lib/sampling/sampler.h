// Draws the next token of a sequence from its logits. A counter-based generator keyed by (seed, request id,
// sample, output position) makes a draw independent of batch, lane and history of other requests.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/ops/logits.h"
#include "lib/request/request.h"

namespace nemo {

/// The log probability of the token with this raw logit. The one expression for drawn, listed and scored
/// tokens, so that they agree to the bit.
inline float logprob_of(float logit, const kernels::LogitStats& stats) {
  return logit - stats.log_sum_exp;
}

/// Everything that decides the draws of one sequence; travels to the last stage when the sequence starts.
struct SamplingKey {
  SamplingParams params;
  uint64_t request_hash = 0;           ///< of the request's id (see hash_request_id)
  int64_t sample = 0;                  ///< which of the n samples
  int64_t num_prompt_tokens = 0;       ///< tokens from this position on are output
  std::vector<int32_t> end_token_ids;  ///< eos and stop ids: not drawn before min_tokens
};

/// A 64-bit hash of the id, the same on every machine.
uint64_t hash_request_id(std::string_view id);

/// Whether draws depend on the tokens before.
bool has_penalties(const SamplingParams& params);

/// logprobs are those of the model's own distribution (before temperature, penalties and filters), so that
/// scoring the same tokens later gives the same numbers to the bit.
struct SampledToken {
  int32_t token_id = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top;  ///< params.logprobs of them, likeliest first, ties to the lower id
};

/// The sampling state of one sequence: its key and, where penalties need them, the tokens it has seen.
class Sampler {
 public:
  explicit Sampler(SamplingKey key);

  /// The sampler of a sequence that has seen the same tokens. Both have penalties or neither has.
  Sampler fork(SamplingKey key) const;

  /// Tells the sampler of the tokens at [position, position + token_ids.size()), each position once, in
  /// order. Costs nothing without penalties.
  void observe(int64_t position, std::span<const int32_t> token_ids);

  /// Draws the token at `position`. logits [vocab_size] are the model's own and `stats` theirs; they are
  /// scratch afterwards. Steps: penalties, min_tokens, temperature, top_k, top_p, min_p, inverse of the
  /// cumulative distribution in rising token id. Greedy = argmax after penalties. Equal logits always rank by
  /// the lower id.
  ///
  /// Logits that are no numbers: NaN is never drawn while there is anything else; the lowest +inf is always
  /// drawn; if all are -inf or NaN, the lowest -inf, and token 0 if all are NaN. May run for several
  /// sequences at the same time.
  SampledToken sample(std::span<float> logits, const kernels::LogitStats& stats, int64_t position) const;

 private:
  /// A logit as the model gave it, kept while penalties have changed it.
  struct RawLogit {
    int32_t token_id;
    float logit;
  };
  std::vector<RawLogit> penalize(std::span<float> logits, int64_t output_position) const;
  int32_t draw(std::span<const float> logits, float max, int64_t output_position) const;

  SamplingKey key_;
  bool has_penalties_;
  std::unordered_map<int32_t, int64_t>
      seen_;  ///< token id to its count in the output; 0 = only in the prompt
};

}  // namespace nemo
