// Generator: a checkpoint in one process, from text to text. The library for programs that want no MPI, and
// the oracle of the distributed engine: run() gives, to the bit, the record a job gives for the same request.
//
//   nemo::Generator generator = nemo::Generator::open("path/to/checkpoint");
//   nemo::Output output = generator.generate("In the beginning", {.max_tokens = 32, .temperature = 0});
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "lib/model/serial_model.h"
#include "lib/request/request.h"
#include "lib/sampling/sampler.h"
#include "lib/text/tokenizer.h"

namespace nemo {

/// Owns model and tokenizer; one sequence at a time; not for use from several threads at once.
class Generator {
 public:
  using Options = SerialModel::Options;

  /// Loads a Hugging Face folder. Throws Error.
  static Generator open(const std::string& path);
  static Generator open(const std::string& path, Options options);

  /// Continues `prompt` (plain text; the tokenizer's own special tokens are added). The draws are those of a
  /// job's line without an id at index 0. Throws TextError for text that is not UTF-8, Error for a prompt
  /// that leaves no room.
  Output generate(std::string_view prompt, const SamplingParams& sampling);

  /// Answers any request, all samples or windows of it. Throws Error where a job would write an error record.
  Record run(const Request& request);

  const ModelConfig& config() const { return model_->config(); }
  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  Generator(std::unique_ptr<SerialModel> model, Tokenizer tokenizer)
      : model_(std::move(model)), tokenizer_(std::move(tokenizer)) {}

  Output run_sample(const Request& request, int64_t sample);
  Score run_score(const Request& request);
  kernels::TensorView<const float> feed(std::span<const int32_t> token_ids);

  std::unique_ptr<SerialModel> model_;  ///< behind a pointer, because a Generator moves and a model does not
  Tokenizer tokenizer_;
};

}  // namespace nemo
