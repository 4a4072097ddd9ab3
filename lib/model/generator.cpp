#include "lib/model/generator.h"

#include <algorithm>

#include "kernels/error.h"
#include "lib/sampling/completion.h"
#include "lib/sampling/score_windows.h"

namespace nemo {

using kernels::TensorView;

namespace {
/// Rows fed at once: bounds the memory of activations and of logits. Any number gives the same bits.
constexpr int64_t kChunk = 64;
}  // namespace

Generator Generator::open(const std::string& path) {
  return open(path, {});
}

Generator Generator::open(const std::string& path, Options options) {
  return {std::make_unique<SerialModel>(path, options), Tokenizer::load(path)};
}

Output Generator::generate(std::string_view prompt, const SamplingParams& sampling) {
  Request request;
  request.id = "0";
  request.prompt_ids = tokenizer_.encode(prompt, AddSpecialTokens::kYes);
  request.sampling = sampling;
  return run_sample(request, 0);
}

/// The residual stream of the last row.
TensorView<const float> Generator::feed(std::span<const int32_t> token_ids) {
  TensorView<const float> stream;
  for (size_t begin = 0; begin < token_ids.size(); begin += kChunk)
    stream = model_->forward(token_ids.subspan(begin, std::min<size_t>(kChunk, token_ids.size() - begin)));
  return stream.slice_rows(stream.rows - 1, 1);
}

Output Generator::run_sample(const Request& request, int64_t sample) {
  const auto num_prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  if (num_prompt_tokens == 0 || num_prompt_tokens >= config().max_position_embeddings)
    throw Error(
        "prompt", std::to_string(num_prompt_tokens) + " tokens",
        "it must have at least one and fewer than " + std::to_string(config().max_position_embeddings));
  const SamplingKey key = make_sampling_key(request, sample, config().eos_token_ids);
  Sampler sampler(key);
  Completion completion(key, config().max_position_embeddings, tokenizer_);
  model_->reset();
  std::vector<float> logits(static_cast<size_t>(config().vocab_size));
  std::vector<int32_t> input = request.prompt_ids;
  while (completion.status() == CompletionStatus::kRunning) {
    sampler.observe(model_->position(), input);
    const TensorView<float> row(logits.data(), 1, config().vocab_size);
    model_->logits(feed(input), row);
    kernels::LogitStats stats;
    kernels::logit_stats(model_->context(), row, {&stats, 1});
    const SampledToken drawn = sampler.sample(logits, stats, model_->position());
    completion.push(drawn);
    input = {drawn.token_id};
  }
  return completion.take();
}

Score Generator::run_score(const Request& request) {
  std::vector<int32_t> tokens = request.prompt_ids;
  tokens.insert(tokens.end(), request.continuation_ids.begin(), request.continuation_ids.end());
  Score score;
  score.token_ids = request.continuation_ids;
  if (request.continuation_ids.empty()) return score;
  if (request.prompt_ids.empty())
    throw Error("context", "is empty", "the first token can only be scored after another one");
  const auto windows =
      score_windows(static_cast<int64_t>(request.prompt_ids.size()),
                    static_cast<int64_t>(request.continuation_ids.size()), config().max_position_embeddings);
  std::vector<float> logits(static_cast<size_t>(kChunk * config().vocab_size));
  std::vector<kernels::LogitStats> stats(kChunk);
  for (const ScoreWindow& window : windows) {
    model_->reset();
    for (int64_t begin = window.begin; begin < window.end - 1; begin += kChunk) {
      const int64_t count = std::min(kChunk, window.end - 1 - begin);
      const auto stream =
          model_->forward(std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)));
      const TensorView<float> rows(logits.data(), count, config().vocab_size);
      model_->logits(stream, rows);
      kernels::logit_stats(model_->context(), rows, std::span(stats).first(static_cast<size_t>(count)));
      for (int64_t i = std::max<int64_t>(0, window.first_predicted - 1 - begin); i < count; ++i) {
        const int32_t target = tokens[static_cast<size_t>(begin + i + 1)];
        const kernels::LogitStats& stat = stats[static_cast<size_t>(i)];
        score.logprobs.push_back(logprob_of(rows.row(i)[target], stat));
        score.is_greedy = score.is_greedy && target == stat.argmax;
      }
    }
  }
  for (const float logprob : score.logprobs) score.sum_logprob += static_cast<double>(logprob);
  return score;
}

Record Generator::run(const Request& request) {
  Record record;
  record.index = request.index;
  record.id = request.id;
  record.task = request.task;
  record.form = request.form;
  record.num_prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  record.metadata_json = request.metadata_json;
  if (request.task == Task::kScore) {
    record.score = run_score(request);
  } else {
    for (int64_t sample = 0; sample < request.sampling.n; ++sample)
      record.outputs.push_back(run_sample(request, sample));
  }
  return record;
}

}  // namespace nemo
