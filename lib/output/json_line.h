// Writes one line of JSON, piece by piece and without a tree: the results are most of what a job writes, and
// their bytes must not depend on a library's version.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// `text` with every byte that is not part of valid UTF-8 replaced by U+FFFD.
std::string to_valid_utf8(std::string_view text);

/// Appends to a line; knows where commas go. Callers open and close in the right order.
class JsonLine {
 public:
  JsonLine& begin_object() { return open('{'); }
  JsonLine& end_object() { return close('}'); }
  JsonLine& begin_array() { return open('['); }
  JsonLine& end_array() { return close(']'); }
  JsonLine& key(std::string_view name);

  JsonLine& null() { return raw("null"); }
  JsonLine& value(bool value) { return raw(value ? "true" : "false"); }
  JsonLine& value(int64_t value) { return raw(std::to_string(value)); }
  JsonLine& value(int32_t value) { return raw(std::to_string(value)); }
  /// The shortest decimal that gives the same value back, always with a point or an exponent, so that readers
  /// that guess types see a float; null for NaN and infinities.
  JsonLine& value(float value);
  JsonLine& value(double value);
  /// Escapes as little as JSON allows; replaces invalid UTF-8 by U+FFFD.
  JsonLine& value(std::string_view text);
  JsonLine& value(const std::string& text) { return value(std::string_view(text)); }
  JsonLine& value(const char* text) { return value(std::string_view(text)); }
  template <class T>
  JsonLine& value(const std::vector<T>& values) {
    begin_array();
    for (const T& element : values) value(element);
    return end_array();
  }
  /// A whole JSON value, as it is, but on one line.
  JsonLine& verbatim(std::string_view json);

  /// Ends the line and gives it away; the next line starts empty.
  std::string take_line();

 private:
  JsonLine& raw(std::string_view json);
  JsonLine& open(char bracket);
  JsonLine& close(char bracket);
  void separate();

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace nemo
