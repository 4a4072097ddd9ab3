#include "lib/config/config_reader.h"

#include <cmath>
#include <limits>
#include <optional>

#include "kernels/error.h"
#include "lib/config/json_text.h"

namespace nemo {
namespace {

using nlohmann::json;

std::optional<double> non_finite(const json& value) {
  if (value.is_object() && value.size() == 1 && value.contains("__float__")) {
    return value["__float__"].is_string() ? non_finite(value["__float__"]) : std::nullopt;
  }
  if (!value.is_string()) return std::nullopt;
  const auto& word = value.get_ref<const std::string&>();
  if (word == "Infinity") return std::numeric_limits<double>::infinity();
  if (word == "-Infinity") return -std::numeric_limits<double>::infinity();
  if (word == "NaN") return std::numeric_limits<double>::quiet_NaN();
  return std::nullopt;
}

}  // namespace

ConfigReader::ConfigReader(const json& object, std::string where, std::vector<std::string>& warnings)
    : object_(object), where_(std::move(where)), warnings_(warnings) {
  if (!object.is_object()) throw Error(where_, "must be a JSON object, not " + json_excerpt(object), "");
}

const json* ConfigReader::find(Spellings spellings) const {
  const json* found = nullptr;
  std::string_view found_key;
  for (const std::string_view key : spellings) {
    const auto entry = object_.find(key);
    if (entry == object_.end() || entry->is_null()) continue;
    if (found == nullptr) {
      found = &*entry;
      found_key = key;
    } else if (*found != *entry) {
      warn(where_ + ": " + std::string(found_key) + " is " + json_excerpt(*found) + " but " +
           std::string(key) + " is " + json_excerpt(*entry) + "; " + std::string(found_key) + " wins");
    }
  }
  return found;
}

int64_t ConfigReader::integer(Spellings spellings, int64_t fallback, IntRange range) const {
  const json* value = find(spellings);
  return value == nullptr ? fallback : to_integer(*value, std::string(*spellings.begin()), range);
}

double ConfigReader::number(Spellings spellings, double fallback) const {
  const json* value = find(spellings);
  return value == nullptr ? fallback : to_number(*value, std::string(*spellings.begin()));
}

bool ConfigReader::boolean(Spellings spellings, bool fallback) const {
  const json* value = find(spellings);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    fail(std::string(*spellings.begin()), "must be true or false, not " + json_excerpt(*value), "");
  }
  return value->get<bool>();
}

std::string ConfigReader::text(Spellings spellings, const std::string& fallback) const {
  const json* value = find(spellings);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    fail(std::string(*spellings.begin()), "must be a string, not " + json_excerpt(*value), "");
  }
  return value->get<std::string>();
}

int64_t ConfigReader::to_integer(const json& value, const std::string& key, IntRange range) const {
  const std::string expected = "must be an integer from " + std::to_string(range.low) + " to " +
                               std::to_string(range.high) + ", not " + json_excerpt(value);
  if (!value.is_number_integer()) fail(key, expected, "");
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    fail(key, expected, "");
  }
  const int64_t number = value.get<int64_t>();
  if (number < range.low || number > range.high) fail(key, expected, "");
  return number;
}

double ConfigReader::to_number(const json& value, const std::string& key) const {
  if (value.is_number()) return value.get<double>();
  if (const auto special = non_finite(value)) return *special;
  fail(key, "must be a number, not " + json_excerpt(value), "");
}

void ConfigReader::fail(const std::string& key, const std::string& what, const std::string& remedy) const {
  throw Error(where_ + ": " + key, what, remedy);
}

}  // namespace nemo
