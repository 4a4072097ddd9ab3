#include "lib/config/sampling_limits.h"

#include <charconv>
#include <cmath>

namespace nemo {
namespace {

// Generous bounds: they keep out typing errors and what would overflow a counter or a float logit, not odd
// experiments.
constexpr int64_t kMaxTokens = 1LL << 31;
constexpr double kMaxTemperature = 100;
constexpr double kMaxPenalty = 100;
constexpr int64_t kMaxSamples = 65536;
constexpr int64_t kMaxLogprobs = 1024;
constexpr size_t kMaxStops = 256;
constexpr size_t kMaxStopBytes = 4096;

std::string number_text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

struct Range {
  double low = 0;
  double high = 0;
  bool low_excluded = false;
};

std::optional<SamplingFault> outside(std::string_view key, double value, const Range& range) {
  const bool above = range.low_excluded ? value > range.low : value >= range.low;
  if (above && value <= range.high) return std::nullopt;  // NaN fails both
  return SamplingFault{key, std::string("must be ") + (range.low_excluded ? "greater than " : "at least ") +
                                number_text(range.low) + " and at most " + number_text(range.high) +
                                ", not " + number_text(value)};
}

std::optional<SamplingFault> outside(std::string_view key, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return std::nullopt;
  return SamplingFault{key, "must be at least " + std::to_string(low) + " and at most " +
                                std::to_string(high) + ", not " + std::to_string(value)};
}

std::optional<SamplingFault> bad_lengths(const SamplingParams& sampling) {
  if (auto fault = outside("max_tokens", sampling.max_tokens, 1, kMaxTokens)) return fault;
  if (auto fault = outside("min_tokens", sampling.min_tokens, 0, kMaxTokens)) return fault;
  if (sampling.min_tokens > sampling.max_tokens) {
    return SamplingFault{"min_tokens", "must not exceed max_tokens (" + std::to_string(sampling.max_tokens) +
                                           "), but is " + std::to_string(sampling.min_tokens)};
  }
  return std::nullopt;
}

std::optional<SamplingFault> bad_stops(const SamplingParams& sampling) {
  if (sampling.stop.size() > kMaxStops) {
    return SamplingFault{"stop", "has " + std::to_string(sampling.stop.size()) + " strings; at most " +
                                     std::to_string(kMaxStops) + " are possible"};
  }
  for (const std::string& stop : sampling.stop) {
    if (stop.empty())
      return SamplingFault{"stop", "has an empty string, which would stop everything at once"};
    if (stop.size() > kMaxStopBytes) {
      return SamplingFault{"stop", "has a string of " + std::to_string(stop.size()) + " bytes; at most " +
                                       std::to_string(kMaxStopBytes) + " are possible"};
    }
  }
  if (sampling.stop_token_ids.size() > kMaxStops) {
    return SamplingFault{"stop_token_ids", "has " + std::to_string(sampling.stop_token_ids.size()) +
                                               " ids; at most " + std::to_string(kMaxStops) +
                                               " are possible"};
  }
  for (const int32_t id : sampling.stop_token_ids) {
    if (id < 0) return SamplingFault{"stop_token_ids", "has a negative id, " + std::to_string(id)};
  }
  return std::nullopt;
}

}  // namespace

std::optional<SamplingFault> find_sampling_fault(const SamplingParams& s) {
  if (auto fault = bad_lengths(s)) return fault;
  if (auto fault = outside("temperature", s.temperature, {0, kMaxTemperature})) return fault;
  if (auto fault = outside("top_p", s.top_p, {0, 1, true})) return fault;
  if (auto fault = outside("top_k", s.top_k, 0, kMaxTokens)) return fault;
  if (auto fault = outside("min_p", s.min_p, {0, 1})) return fault;
  if (auto fault = outside("n", s.n, 1, kMaxSamples)) return fault;
  if (auto fault = outside("repetition_penalty", s.repetition_penalty, {0, kMaxPenalty, true})) return fault;
  if (auto fault = outside("frequency_penalty", s.frequency_penalty, {-kMaxPenalty, kMaxPenalty}))
    return fault;
  if (auto fault = outside("presence_penalty", s.presence_penalty, {-kMaxPenalty, kMaxPenalty})) return fault;
  if (auto fault = bad_stops(s)) return fault;
  return outside("logprobs", s.logprobs, 0, kMaxLogprobs);
}

std::optional<std::string> invalid_sampling(const SamplingParams& sampling) {
  const auto fault = find_sampling_fault(sampling);
  if (!fault) return std::nullopt;
  return std::string(fault->key) + " " + fault->what;
}

}  // namespace nemo
