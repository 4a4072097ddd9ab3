#include "lib/config/canonical_job.h"

#include <charconv>
#include <nlohmann/json.hpp>

namespace nemo {
namespace {

/// A JSON string is a YAML string.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

std::string list(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const std::string& item : items) text += (text.size() > 1 ? ", " : "") + item;
  return text + "]";
}

std::vector<std::string> all_quoted(const std::vector<std::string>& texts) {
  std::vector<std::string> result;
  for (const std::string& text : texts) result.push_back(quoted(text));
  return result;
}

std::string number(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

std::string sampling_yaml(const SamplingParams& sampling) {
  std::vector<std::string> ids;
  for (const int32_t id : sampling.stop_token_ids) ids.push_back(std::to_string(id));
  std::string text = "sampling:\n";
  const auto add = [&](const char* key, const std::string& value) {
    text += std::string("  ") + key + ": " + value + "\n";
  };
  add("max_tokens", std::to_string(sampling.max_tokens));
  add("min_tokens", std::to_string(sampling.min_tokens));
  add("temperature", number(sampling.temperature));
  add("top_p", number(sampling.top_p));
  add("top_k", std::to_string(sampling.top_k));
  add("min_p", number(sampling.min_p));
  add("n", std::to_string(sampling.n));
  add("seed", std::to_string(sampling.seed));
  add("repetition_penalty", number(sampling.repetition_penalty));
  add("frequency_penalty", number(sampling.frequency_penalty));
  add("presence_penalty", number(sampling.presence_penalty));
  add("stop", list(all_quoted(sampling.stop)));
  add("stop_token_ids", list(ids));
  add("ignore_eos", sampling.ignore_eos ? "true" : "false");
  add("logprobs", std::to_string(sampling.logprobs));
  return text;
}

}  // namespace

std::string canonical_job_yaml(const JobConfig& config) {
  return std::string("task: ") + (config.task == Task::kGenerate ? "generate" : "score") +
         "\nmodel:\n  dtype: " + (config.dtype == ActivationType::kBFloat16 ? "bfloat16" : "float32") + "\n" +
         sampling_yaml(config.sampling) + "engine:\n  kv_cache_dtype: " +
         (config.engine.kv_cache_dtype == KvCacheType::kAuto ? "auto" : "fp8") + "\n";
}

}  // namespace nemo
