// What a user asks for (Request) and what they get (Record): plain values that travel from the input
// reader to a lane and back to the journal. Both are serialized by lib/request/serialize.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nemo {

/// How one continuation is drawn. Names and defaults are those of the job's `sampling` section.
struct SamplingParams {
  int64_t max_tokens = 256;
  int64_t min_tokens = 0;    ///< no end-of-text token and no stop before so many tokens
  double temperature = 1.0;  ///< 0 = greedy
  double top_p = 1.0;        ///< 1 = off
  int64_t top_k = 0;         ///< 0 = off
  double min_p = 0.0;        ///< 0 = off
  int64_t n = 1;             ///< samples per request, numbered from 0
  uint64_t seed = 0;
  double repetition_penalty =
      1.0;                         ///< > 1 discourages tokens of prompt and output; divides/multiplies logits
  double frequency_penalty = 0.0;  ///< times the count in the output, subtracted from logits
  double presence_penalty = 0.0;   ///< subtracted from logits of tokens in the output
  std::vector<std::string> stop;   ///< the output ends before the first of these
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  int64_t logprobs = 0;  ///< 0 = none; N = the chosen token's and those of the N likeliest

  bool operator==(const SamplingParams&) const = default;
};

/// The form of the input line, which decides the form of the output line.
enum class LineForm : uint8_t { kPlain, kOpenAiChat, kOpenAiCompletion };

enum class Task : uint8_t { kGenerate, kScore };

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;
  bool operator==(const TokenLogprob&) const = default;
};

/// One continuation of a request.
struct Output {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;                          ///< of each token, if asked for
  std::vector<std::vector<TokenLogprob>> top_logprobs;  ///< per token, likeliest first, if asked for
  std::string finish_reason;                            ///< "stop" or "length"
  bool operator==(const Output&) const = default;
};

/// One input line, ready for a lane. Ids are given by users; `index` is unique and dense.
struct Request {
  int64_t index = 0;  ///< 0-based position in the concatenated input
  std::string id;     ///< the line's id, or its index in decimal
  Task task = Task::kGenerate;
  LineForm form = LineForm::kPlain;
  std::vector<int32_t> prompt_ids;        ///< generate: the prompt; score: the context (may be empty)
  std::vector<int32_t> continuation_ids;  ///< score only: the tokens whose logprobs are wanted
  SamplingParams sampling;
  std::string metadata_json;  ///< unknown fields of the line as one JSON object, or empty
  /// What an earlier run had of the outputs, as SampleProgress keeps it: empty, or one for each sample.
  std::vector<Output> prior_outputs;
};

/// What scoring a continuation gives.
struct Score {
  double sum_logprob = 0;          ///< natural logarithm, summed in order over the continuation
  bool is_greedy = true;           ///< every continuation token was the likeliest one
  std::vector<int32_t> token_ids;  ///< the scored tokens
  std::vector<float> logprobs;     ///< one per scored token
  bool operator==(const Score&) const = default;
};

/// Why a request has no result. The job goes on.
struct RequestError {
  std::string code;     ///< machine readable: "malformed_line", "prompt_too_long", ...
  std::string message;  ///< for people: place, what is wrong, what to do
  bool operator==(const RequestError&) const = default;
};

/// A generation under way, so that a crash does not cost a long one: sample `sample` of request `index` as
/// far as it has come. Later progress of the same sample replaces earlier progress.
struct SampleProgress {
  int64_t index = 0;
  int64_t sample = 0;
  Output
      output;  ///< without text; finish_reason is empty while the sample is running. A finished one is whole
  bool operator==(const SampleProgress&) const = default;
};

/// A finished request: exactly what is written to the journal and from there to the results.
struct Record {
  int64_t index = 0;
  std::string id;
  Task task = Task::kGenerate;
  LineForm form = LineForm::kPlain;
  int64_t num_prompt_tokens = 0;
  std::vector<Output> outputs;  ///< generate: n of them
  std::optional<Score> score;   ///< score
  std::optional<RequestError> error;
  std::string metadata_json;
  bool operator==(const Record&) const = default;
};

}  // namespace nemo
