// Text for people: numbers with their units, and lines with a label in front. GCC 12 has no std::format.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace nemo::launch {

/// printf into a string of at most 255 characters.
[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...);

/// 1234567 as "1,234,567".
std::string grouped(int64_t number);

/// Three digits and the unit in which they are readable; "-" for nothing.
std::string bytes_text(double bytes);
inline std::string bytes_text(int64_t bytes) {
  return bytes_text(static_cast<double>(bytes));
}

/// "1 rank", "2,000 ranks".
std::string plural(int64_t count, const std::string& noun);

/// "7.3" or "1,234": below ten the first decimal counts.
std::string speed_text(double tokens_per_s);

/// Writes "label         first line" and indents what follows.
class Sheet {
 public:
  void entry(const std::string& label, const std::string& line) {
    result_ += text("%-13s ", label.c_str()) + line + "\n";
  }
  void more(const std::string& line) { entry("", line); }
  void blank() { result_ += "\n"; }
  void raw(const std::string& line) { result_ += line + "\n"; }
  std::string take() { return std::move(result_); }

 private:
  std::string result_;
};

}  // namespace nemo::launch
