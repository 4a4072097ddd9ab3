#include "lib/sampling/sampler.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "lib/sampling/counter_rng.h"
#include "lib/sampling/likeliest.h"
#include "lib/sampling/weights.h"

namespace nemo {
namespace {

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, const kernels::LogitStats& stats,
                                       int64_t count) {
  std::vector<TokenLogprob> top;
  if (count <= 0) return top;
  for (const RankedToken& token : likeliest(logits, count)) {
    top.push_back({token.token_id, logprob_of(token.logit, stats)});
  }
  return top;
}

}  // namespace

uint64_t hash_request_id(std::string_view id) {
  return XXH3_64bits(id.data(), id.size());
}

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0;
}

Sampler::Sampler(SamplingKey key) : key_(std::move(key)), has_penalties_(has_penalties(key_.params)) {}

Sampler Sampler::fork(SamplingKey key) const {
  Sampler other(std::move(key));
  other.seen_ = seen_;
  return other;
}

void Sampler::observe(int64_t position, std::span<const int32_t> token_ids) {
  if (!has_penalties_) return;
  for (const int32_t token_id : token_ids) seen_[token_id] += position++ >= key_.num_prompt_tokens ? 1 : 0;
}

SampledToken Sampler::sample(std::span<float> logits, const kernels::LogitStats& stats,
                             int64_t position) const {
  const int64_t output_position = position - key_.num_prompt_tokens;
  const std::vector<RawLogit> changed = penalize(logits, output_position);
  int32_t token_id = changed.empty() ? stats.argmax : likeliest_token(logits);
  const float max = logits[static_cast<size_t>(token_id)];
  if (key_.params.temperature > 0 && std::isfinite(max)) token_id = draw(logits, max, output_position);
  // Backwards, because a masked token may be listed twice or be penalized too: its first entry is the model's
  // own logit.
  for (auto raw = changed.rbegin(); raw != changed.rend(); ++raw)
    logits[static_cast<size_t>(raw->token_id)] = raw->logit;
  return {token_id, logprob_of(logits[static_cast<size_t>(token_id)], stats),
          top_logprobs(logits, stats, key_.params.logprobs)};
}

// Every token is changed by itself, so the order in which the map yields them does not matter.
std::vector<Sampler::RawLogit> Sampler::penalize(std::span<float> logits, int64_t output_position) const {
  const SamplingParams& p = key_.params;
  std::vector<RawLogit> changed;
  changed.reserve(seen_.size());
  for (const auto& [token_id, count] : seen_) {
    if (token_id < 0 || static_cast<size_t>(token_id) >= logits.size()) continue;
    float& logit = logits[static_cast<size_t>(token_id)];
    changed.push_back({token_id, logit});
    double value = logit;
    value = value < 0 ? value * p.repetition_penalty : value / p.repetition_penalty;
    if (count > 0) value -= p.presence_penalty + p.frequency_penalty * static_cast<double>(count);
    logit = static_cast<float>(value);
  }
  if (output_position >= p.min_tokens) return changed;
  for (const int32_t token_id : key_.end_token_ids) {
    if (token_id < 0 || static_cast<size_t>(token_id) >= logits.size()) continue;
    changed.push_back({token_id, logits[static_cast<size_t>(token_id)]});
    logits[static_cast<size_t>(token_id)] = -std::numeric_limits<float>::infinity();
  }
  return changed;
}

int32_t Sampler::draw(std::span<const float> logits, float max, int64_t output_position) const {
  const SamplingParams& p = key_.params;
  const double uniform = uniform_draw(p.seed, key_.request_hash, static_cast<uint32_t>(key_.sample),
                                      static_cast<uint32_t>(output_position));
  std::vector<int32_t> ids;  // of the tokens that are left, if not all are
  std::vector<float> logits_left;
  if (p.top_k > 0 && static_cast<uint64_t>(p.top_k) < logits.size()) {
    for (const RankedToken& token : likeliest(logits, p.top_k)) ids.push_back(token.token_id);
    std::sort(ids.begin(), ids.end());
    for (const int32_t token_id : ids) logits_left.push_back(logits[static_cast<size_t>(token_id)]);
    logits = logits_left;
  }
  std::vector<double> weights = weigh(logits, max, p.temperature);
  if (p.top_p < 1) keep_nucleus(weights, logits, p.top_p);
  if (p.min_p > 0) {
    for (double& weight : weights) weight = weight < p.min_p ? 0 : weight;  // the likeliest has weight 1
  }
  const size_t drawn = draw_index(weights, uniform);
  return ids.empty() ? static_cast<int32_t>(drawn) : ids[drawn];
}

}  // namespace nemo
