#include "lib/sampling/sampler.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "lib/sampling/counter_rng.h"
#include "lib/sampling/likeliest.h"

namespace nemo {
namespace {

// exp((logit - max) / temperature): 1 for the likeliest, 0 for what cannot be drawn. In double, as are all
// sums of it, so that a hundred thousand unlikely tokens keep their share.
struct Weigher {
  double max;
  double temperature;
  double min_p = 0;

  double operator()(float logit) const {
    const double scaled = (static_cast<double>(logit) - max) / temperature;
    const double weight = scaled <= 0 ? std::exp(scaled) : 0;  // false for NaN
    return weight >= min_p ? weight : 0;
  }
};

struct WeighedToken {
  int32_t token_id;
  double weight;
};

// Weights are summed block by block, so that a draw computes every exponential once and those of one block
// again.
constexpr size_t kBlockTokens = 256;

std::vector<double> block_weights(std::span<const float> logits, const Weigher& weigh) {
  std::vector<double> sums;
  sums.reserve(logits.size() / kBlockTokens + 1);
  for (size_t begin = 0; begin < logits.size(); begin += kBlockTokens) {
    double sum = 0;
    for (const float logit : logits.subspan(begin, std::min(kBlockTokens, logits.size() - begin)))
      sum += weigh(logit);
    sums.push_back(sum);
  }
  return sums;
}

double total_of(std::span<const double> values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}

// The first index at which the running sum, begun at `sum`, exceeds `target`. Rounding may leave the whole
// sum at or below it: then the last index with a weight. `sum` becomes the sum before that index.
template <class Weight>
size_t invert(size_t count, const Weight& weight_of, double target, double& sum) {
  size_t last = 0;
  double before_last = sum;
  for (size_t i = 0; i < count; ++i) {
    const double weight = weight_of(i);
    if (weight <= 0) continue;
    last = i;
    before_last = sum;
    sum += weight;
    if (sum > target) break;
  }
  sum = before_last;
  return last;
}

int32_t draw_from_all(std::span<const float> logits, const Weigher& weigh, double uniform) {
  const std::vector<double> sums = block_weights(logits, weigh);
  const double target = uniform * total_of(sums);
  double sum = 0;
  const size_t begin = invert(
                           sums.size(), [&](size_t i) { return sums[i]; }, target, sum) *
                       kBlockTokens;
  const size_t count = std::min(kBlockTokens, logits.size() - begin);
  return static_cast<int32_t>(begin +
                              invert(
                                  count, [&](size_t i) { return weigh(logits[begin + i]); }, target, sum));
}

int32_t draw_from(std::span<const WeighedToken> tokens, double uniform) {
  double total = 0;
  for (const WeighedToken& token : tokens) total += token.weight;
  double sum = 0;
  return tokens[invert(
                    tokens.size(), [&](size_t i) { return tokens[i].weight; }, uniform * total, sum)]
      .token_id;
}

std::vector<WeighedToken> weigh_all(std::span<const RankedToken> tokens, const Weigher& weigh) {
  std::vector<WeighedToken> weighed;
  weighed.reserve(tokens.size());
  for (const RankedToken& token : tokens) weighed.push_back({token.token_id, weigh(token.logit)});
  return weighed;
}

// Keeps the shortest beginning whose weight reaches `mass`; false if all of it does not.
bool cut_at_mass(std::vector<WeighedToken>& tokens, double mass) {
  double sum = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    sum += tokens[i].weight;
    if (sum < mass) continue;
    tokens.resize(i + 1);
    return true;
  }
  return false;
}

std::vector<WeighedToken> top_k_then_top_p(std::span<const float> logits, const Weigher& weigh, int64_t top_k,
                                           double top_p) {
  std::vector<WeighedToken> kept = weigh_all(likeliest(logits, top_k), weigh);
  double total = 0;
  for (const WeighedToken& token : kept) total += token.weight;
  if (top_p < 1) cut_at_mass(kept, top_p * total);
  return kept;
}

// A nucleus is mostly a handful of tokens, so a few are ranked first and more only if they do not reach the
// mass.
std::vector<WeighedToken> top_p_of_all(std::span<const float> logits, const Weigher& weigh, double top_p) {
  const double mass = top_p * total_of(block_weights(logits, weigh));
  for (int64_t count = 64;; count *= 8) {
    std::vector<WeighedToken> kept = weigh_all(likeliest(logits, count), weigh);
    if (cut_at_mass(kept, mass) || static_cast<int64_t>(kept.size()) < count) return kept;
  }
}

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

Sampler::Sampler(SamplingKey key) : key_(std::move(key)) {
  const SamplingParams& p = key_.params;
  has_penalties_ = p.repetition_penalty != 1 || p.frequency_penalty != 0 || p.presence_penalty != 0;
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
  const bool limits_count = p.top_k > 0 && static_cast<uint64_t>(p.top_k) < logits.size();
  if (!limits_count && p.top_p >= 1) return draw_from_all(logits, {max, p.temperature, p.min_p}, uniform);

  const Weigher weigh = {max, p.temperature};
  std::vector<WeighedToken> kept =
      limits_count ? top_k_then_top_p(logits, weigh, p.top_k, p.top_p) : top_p_of_all(logits, weigh, p.top_p);
  std::erase_if(kept, [&p](const WeighedToken& token) { return token.weight < p.min_p; });
  std::sort(kept.begin(), kept.end(),
            [](const WeighedToken& a, const WeighedToken& b) { return a.token_id < b.token_id; });
  return draw_from(kept, uniform);
}

}  // namespace nemo
