// JsonPlace: a value of a JSON file that knows where it stands, so that what is wrong with it can be said
// precisely.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace nemo {

/// Borrows the value and the file's name. Every member function that meets a value of another type throws
/// Error naming the file, the place ("model.merges[17]") and what was expected.
class JsonPlace {
 public:
  JsonPlace(const nlohmann::json& value, const std::string& file) : value_(&value), file_(&file) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& file() const { return *file_; }
  /// File and place, as errors begin.
  std::string where() const;

  bool is_null() const { return value_->is_null(); }
  /// The member `key` of this object; a missing one is an Error.
  JsonPlace at(std::string_view key) const;
  /// The member `key`, or nothing if it is missing or null.
  std::optional<JsonPlace> find(std::string_view key) const;
  /// Element `i` of this array.
  JsonPlace at(size_t i) const;
  /// A member that is known to exist, reached by iteration.
  JsonPlace member(const std::string& key, const nlohmann::json& value) const;

  const nlohmann::json& object() const;
  const nlohmann::json& array() const;
  const std::string& string() const;
  bool boolean() const;
  /// An integer of [low, high].
  int64_t integer(int64_t low, int64_t high) const;

  /// `find(key)` as bool; `fallback` if it is missing or null.
  bool boolean_or(std::string_view key, bool fallback) const;

  [[noreturn]] void fail(const std::string& what, std::string_view remedy = kDamaged) const;
  /// For what we do not do, as opposed to what cannot be.
  [[noreturn]] void refuse(const std::string& what) const;

  static constexpr std::string_view kDamaged =
      "the file is damaged or not a tokenizer.json; take it from the checkpoint's source again";

 private:
  const nlohmann::json* value_;
  const std::string* file_;
  std::string place_;
};

}  // namespace nemo
