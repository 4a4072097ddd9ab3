// ConfigReader: typed, range-checked access to one JSON object under several spellings. Internal to
// lib/config.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// Both ends included.
struct IntRange {
  int64_t low = 0;
  int64_t high = 0;
};

/// Spellings of one key, the one that wins first.
using Spellings = std::initializer_list<std::string_view>;

class ConfigReader {
 public:
  /// `object` must outlive the reader. `where` names file and, for a nested object, its place. Contradictions
  /// between spellings are added to `warnings`.
  ConfigReader(const nlohmann::json& object, std::string where, std::vector<std::string>& warnings);

  /// The value under the first spelling that is there and not null, or nullptr.
  const nlohmann::json* find(Spellings spellings) const;
  const nlohmann::json* find(std::string_view key) const { return find(Spellings{key}); }

  // Absent and null give `fallback`. All throw Error naming file and key for another type or a value out of
  // range.
  int64_t integer(Spellings spellings, int64_t fallback, IntRange range) const;
  double number(Spellings spellings, double fallback) const;
  bool boolean(Spellings spellings, bool fallback) const;
  std::string text(Spellings spellings, const std::string& fallback) const;

  /// A value that is an integer in `range`; `key` names it in errors.
  int64_t to_integer(const nlohmann::json& value, const std::string& key, IntRange range) const;
  /// A number, with Infinity and NaN in every spelling (bare, string, {"__float__": "Infinity"}).
  double to_number(const nlohmann::json& value, const std::string& key) const;

  [[noreturn]] void fail(const std::string& key, const std::string& what, const std::string& remedy) const;
  void warn(const std::string& text) const { warnings_.push_back(text); }

  const nlohmann::json& object() const { return object_; }
  const std::string& where() const { return where_; }
  std::vector<std::string>& warnings() const { return warnings_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string>& warnings_;
};

}  // namespace nemo
