// Completion: one sample's output as it grows, and the one place that says when it ends. Used by a lane's
// scheduler and by the in-process generator alike, so that both give the same record.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/request/request.h"
#include "lib/sampling/sampler.h"
#include "lib/text/detokenizer.h"
#include "lib/text/stop_matcher.h"
#include "lib/text/tokenizer.h"

namespace nemo {

/// The key of sample number `sample` of a generate request. End tokens: the model's, unless they are to be
/// ignored, and the request's own.
SamplingKey make_sampling_key(const Request& request, int64_t sample, std::span<const int32_t> eos_token_ids);

enum class CompletionStatus : uint8_t { kRunning, kFinished };

/// Ends, whatever comes first:
/// - "stop": an end token, which is in token_ids but not in the text; or a stop string, before which the text
/// is cut while
///   token_ids keep the tokens it was made of. Neither counts within the first min_tokens tokens: a stop
///   string must lie wholly in the text of later ones.
/// - "length": max_tokens tokens, or prompt and output together have max_context.
/// Special tokens are never in the text.
class Completion {
 public:
  /// Borrows `tokenizer`, which must outlive the completion. `prior` are the tokens drawn so far of one that
  /// goes on.
  Completion(const SamplingKey& key, int64_t max_context, const Tokenizer& tokenizer,
             std::span<const SampledToken> prior = {});

  /// Takes the next token. Must not be called once finished.
  CompletionStatus push(const SampledToken& drawn);

  CompletionStatus status() const {
    return output_.finish_reason.empty() ? CompletionStatus::kRunning : CompletionStatus::kFinished;
  }
  const std::vector<int32_t>& token_ids() const { return output_.token_ids; }

  /// What there is so far; text lags behind by what may become part of a stop string or a character.
  const Output& output() const { return output_; }

  /// Hands over the result of a finished completion, which is used up by it.
  Output take();

 private:
  int64_t num_tokens() const { return static_cast<int64_t>(output_.token_ids.size()); }
  bool is_end_token(int32_t token_id) const;
  void record(const SampledToken& drawn);
  void append(std::string piece, bool may_stop);
  void end_text();
  void finish_if_full();

  int64_t min_tokens_;
  int64_t most_tokens_;  ///< of max_tokens and what the context has room for, the smaller
  bool keeps_logprobs_;
  std::vector<int32_t> end_token_ids_;
  StreamDetokenizer detokenizer_;
  StopMatcher stop_matcher_;
  Output output_;  ///< has a finish_reason once finished
};

}  // namespace nemo
