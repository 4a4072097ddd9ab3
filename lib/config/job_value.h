// JobValue: one value of a job file with its key's name, converted to what the job needs. Internal to
// lib/config.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/config/yaml_tree.h"

namespace nemo {

/// All conversions throw Error(kBadJob) naming file, line, key and what is possible.
class JobValue {
 public:
  /// Both must outlive the value. `key` is the full path, "sampling.top_p".
  JobValue(const YamlNode& node, const std::string& key) : node_(node), key_(key) {}

  std::string text() const;                ///< any scalar that is not empty
  std::vector<std::string> texts() const;  ///< a list of scalars, or one scalar
  int64_t integer(int64_t low, int64_t high) const;
  uint64_t unsigned_integer() const;
  std::vector<int32_t> token_ids() const;
  double number() const;  ///< finite
  bool boolean() const;   ///< true or false

  /// Index of the word in `words`.
  size_t one_of(const std::vector<std::string>& words) const;

  std::optional<int64_t> integer_or_auto(int64_t low, int64_t high) const;
  std::optional<int64_t> size_or_auto() const;     ///< bytes
  std::optional<double> duration_or_none() const;  ///< seconds

  [[noreturn]] void fail(const std::string& what, const std::string& remedy) const;
  /// "must be <expected>, not <what stands there>".
  [[noreturn]] void fail_expected(const std::string& expected) const;

 private:
  bool is_word(const char* word) const;  ///< quoted or not

  const YamlNode& node_;
  const std::string& key_;
};

}  // namespace nemo
