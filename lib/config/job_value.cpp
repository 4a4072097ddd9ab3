#include "lib/config/job_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kernels/error.h"
#include "lib/config/units.h"

namespace nemo {
namespace {

constexpr int64_t kLeastMemoryBytes = 16 << 20;
constexpr double kLongestTimeS = 10.0 * 365 * 86400;

/// The whole text as a number, or nothing.
template <typename T>
std::optional<T> parse_whole(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string excerpt(const YamlNode& node) {
  constexpr size_t kMaxLength = 60;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a section";
    case YamlNode::Kind::kScalar:
      break;
  }
  return "'" + (node.scalar.size() > kMaxLength ? node.scalar.substr(0, kMaxLength) + "..." : node.scalar) +
         "'";
}

std::string range_text(int64_t low, int64_t high) {
  return "an integer from " + std::to_string(low) + " to " + std::to_string(high);
}

}  // namespace

bool JobValue::is_word(const char* word) const {
  return node_.kind == YamlNode::Kind::kScalar && node_.scalar == word;
}

std::string JobValue::text() const {
  if (node_.kind != YamlNode::Kind::kScalar || node_.scalar.empty()) fail_expected("a text");
  return node_.scalar;
}

std::vector<std::string> JobValue::texts() const {
  if (node_.kind != YamlNode::Kind::kList) return {text()};
  std::vector<std::string> result;
  for (const YamlNode& item : node_.items) result.push_back(JobValue(item, key_).text());
  return result;
}

int64_t JobValue::integer(int64_t low, int64_t high) const {
  const bool is_number = node_.kind == YamlNode::Kind::kScalar && !node_.is_quoted;
  const auto value = is_number ? parse_whole<int64_t>(node_.scalar) : std::nullopt;
  if (!value || *value < low || *value > high) fail_expected(range_text(low, high));
  return *value;
}

uint64_t JobValue::unsigned_integer() const {
  const bool is_number = node_.kind == YamlNode::Kind::kScalar && !node_.is_quoted;
  const auto value = is_number ? parse_whole<uint64_t>(node_.scalar) : std::nullopt;
  if (!value) fail_expected("an integer from 0 to " + std::to_string(UINT64_MAX));
  return *value;
}

std::vector<int32_t> JobValue::token_ids() const {
  if (node_.kind != YamlNode::Kind::kList) fail_expected("a list of token ids");
  std::vector<int32_t> ids;
  for (const YamlNode& item : node_.items) {
    ids.push_back(static_cast<int32_t>(JobValue(item, key_).integer(0, INT32_MAX)));
  }
  return ids;
}

double JobValue::number() const {
  const bool is_number = node_.kind == YamlNode::Kind::kScalar && !node_.is_quoted;
  const auto value = is_number ? parse_whole<double>(node_.scalar) : std::nullopt;
  if (!value || !std::isfinite(*value)) fail_expected("a number");
  return *value;
}

bool JobValue::boolean() const {
  if (!node_.is_quoted && (is_word("true") || is_word("True"))) return true;
  if (!node_.is_quoted && (is_word("false") || is_word("False"))) return false;
  fail_expected("true or false");
}

size_t JobValue::one_of(const std::vector<std::string>& words) const {
  if (node_.kind == YamlNode::Kind::kScalar) {
    const auto word = std::find(words.begin(), words.end(), node_.scalar);
    if (word != words.end()) return static_cast<size_t>(word - words.begin());
  }
  std::string expected;
  for (const std::string& word : words) expected += (expected.empty() ? "" : " or ") + word;
  fail_expected(expected);
}

std::optional<int64_t> JobValue::integer_or_auto(int64_t low, int64_t high) const {
  if (is_word("auto")) return std::nullopt;
  const bool is_number = node_.kind == YamlNode::Kind::kScalar && !node_.is_quoted;
  const auto value = is_number ? parse_whole<int64_t>(node_.scalar) : std::nullopt;
  if (!value || *value < low || *value > high) fail_expected("auto or " + range_text(low, high));
  return value;
}

std::optional<int64_t> JobValue::size_or_auto() const {
  if (is_word("auto")) return std::nullopt;
  const auto bytes = node_.kind == YamlNode::Kind::kScalar ? parse_size(node_.scalar) : std::nullopt;
  if (!bytes || *bytes < kLeastMemoryBytes)
    fail_expected("auto or a size of at least 16MiB with its unit, like 20GiB");
  return bytes;
}

std::optional<double> JobValue::duration_or_none() const {
  if (is_word("none") || node_.kind == YamlNode::Kind::kNull) return std::nullopt;
  const auto seconds = node_.kind == YamlNode::Kind::kScalar ? parse_duration(node_.scalar) : std::nullopt;
  if (!seconds || *seconds <= 0 || *seconds > kLongestTimeS) {
    fail_expected("none or a time of at most ten years, like 2h30m or 90s");
  }
  return seconds;
}

void JobValue::fail(const std::string& what, const std::string& remedy) const {
  throw Error(node_.where + ": " + key_, what, remedy, ErrorKind::kBadJob);
}

void JobValue::fail_expected(const std::string& expected) const {
  const bool is_quoted_number = node_.is_quoted && parse_whole<double>(node_.scalar).has_value();
  fail("must be " + expected + ", not " + excerpt(node_), is_quoted_number ? "remove the quotes" : "");
}

}  // namespace nemo
