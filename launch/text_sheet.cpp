#include "launch/text_sheet.h"

#include <array>
#include <cstdarg>
#include <cstdio>

namespace nemo::launch {

std::string text(const char* format, ...) {
  std::array<char, 256> buffer{};
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(buffer.data(), buffer.size(), format, arguments);
  va_end(arguments);
  return buffer.data();
}

std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (auto i = static_cast<int64_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<size_t>(i), 1, ',');
  return digits;
}

std::string bytes_text(double bytes) {
  if (bytes == 0) return "-";
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  const int decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  return text("%.*f %s", decimals, bytes, kUnits[unit]);
}

std::string plural(int64_t count, const std::string& noun) {
  return grouped(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string speed_text(double tokens_per_s) {
  return tokens_per_s < 10 ? text("%.1f", tokens_per_s) : grouped(static_cast<int64_t>(tokens_per_s + 0.5));
}

}  // namespace nemo::launch
