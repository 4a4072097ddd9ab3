#include "lib/request/sampling_json.h"

#include <array>
#include <limits>
#include <utility>
#include <variant>

namespace nemo {
namespace {

using Member = std::variant<int64_t SamplingParams::*, uint64_t SamplingParams::*, double SamplingParams::*,
                            bool SamplingParams::*, std::vector<std::string> SamplingParams::*,
                            std::vector<int32_t> SamplingParams::*>;

struct Key {
  std::string_view name;
  Member member;
};

const std::array<Key, 15> kKeys{{
    {"max_tokens", &SamplingParams::max_tokens},
    {"min_tokens", &SamplingParams::min_tokens},
    {"temperature", &SamplingParams::temperature},
    {"top_p", &SamplingParams::top_p},
    {"top_k", &SamplingParams::top_k},
    {"min_p", &SamplingParams::min_p},
    {"n", &SamplingParams::n},
    {"seed", &SamplingParams::seed},
    {"repetition_penalty", &SamplingParams::repetition_penalty},
    {"frequency_penalty", &SamplingParams::frequency_penalty},
    {"presence_penalty", &SamplingParams::presence_penalty},
    {"stop", &SamplingParams::stop},
    {"stop_token_ids", &SamplingParams::stop_token_ids},
    {"ignore_eos", &SamplingParams::ignore_eos},
    {"logprobs", &SamplingParams::logprobs},
}};

const Key* find_key(std::string_view name) {
  for (const Key& key : kKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

// Each reads `value` or returns what it must be.
using Fault = const char*;

Fault read(const nlohmann::json& value, int64_t& out) {
  const bool fits = value.is_number_integer() &&
                    !(value.is_number_unsigned() &&
                      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  if (!fits) return "an integer";
  out = value.get<int64_t>();
  return nullptr;
}

Fault read(const nlohmann::json& value, uint64_t& out) {
  if (!value.is_number_unsigned()) return "an integer of 0 or more";
  out = value.get<uint64_t>();
  return nullptr;
}

Fault read(const nlohmann::json& value, double& out) {
  if (!value.is_number()) return "a number";
  out = value.get<double>();
  return nullptr;
}

Fault read(const nlohmann::json& value, bool& out) {
  if (!value.is_boolean()) return "true or false";
  out = value.get<bool>();
  return nullptr;
}

Fault read(const nlohmann::json& value, std::vector<std::string>& out) {
  constexpr Fault kFault = "a string or a list of strings";
  if (value.is_string()) {
    out = {value.get<std::string>()};
    return nullptr;
  }
  if (!value.is_array()) return kFault;
  std::vector<std::string> strings;
  for (const nlohmann::json& element : value) {
    if (!element.is_string()) return kFault;
    strings.push_back(element.get<std::string>());
  }
  out = std::move(strings);
  return nullptr;
}

Fault read(const nlohmann::json& value, std::vector<int32_t>& out) {
  constexpr Fault kFault = "a list of token ids";
  if (!value.is_array()) return kFault;
  std::vector<int32_t> ids;
  for (const nlohmann::json& element : value) {
    int64_t id = 0;
    if (read(element, id) != nullptr || id < 0 || id > std::numeric_limits<int32_t>::max()) return kFault;
    ids.push_back(static_cast<int32_t>(id));
  }
  out = std::move(ids);
  return nullptr;
}

// Lists and objects by their kind only: they may be large, and deep.
std::string short_text(const nlohmann::json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  constexpr size_t kMaxBytes = 60;
  const std::string text = value.dump(-1, ' ', true);
  return text.size() <= kMaxBytes ? text : "a longer " + std::string(value.type_name());
}

}  // namespace

bool is_sampling_key(std::string_view key) {
  return find_key(key) != nullptr;
}

std::optional<std::string> set_sampling_key(SamplingParams& sampling, std::string_view name,
                                            const nlohmann::json& value) {
  const Key* key = find_key(name);
  if (key == nullptr) return std::string(name) + " is not a sampling key";
  const auto read_member = [&](auto member) { return read(value, sampling.*member); };
  const Fault fault = std::visit(read_member, key->member);
  if (fault == nullptr) return std::nullopt;
  return std::string(name) + " must be " + fault + ", not " + short_text(value);
}

}  // namespace nemo
