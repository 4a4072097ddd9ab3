#include "lib/config/units.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace nemo {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array kSizes = {
    Unit{"", 1},
    Unit{"B", 1},
    Unit{"kB", 1e3},
    Unit{"KB", 1e3},
    Unit{"MB", 1e6},
    Unit{"GB", 1e9},
    Unit{"TB", 1e12},
    Unit{"KiB", 1024},
    Unit{"MiB", 1 << 20},
    Unit{"GiB", 1 << 30},
    Unit{"TiB", 1099511627776.0},
};

constexpr std::array kDurations = {Unit{"d", 86400}, Unit{"h", 3600}, Unit{"m", 60}, Unit{"s", 1}};

/// Takes a plain decimal number (no sign, no exponent) off the front of `text`.
std::optional<double> take_number(std::string_view& text) {
  const size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  double value = 0;
  const auto [stop, code] = std::from_chars(text.data(), text.data() + end, value);
  if (code != std::errc() || stop != text.data() + end) return std::nullopt;
  text.remove_prefix(end);
  return value;
}

}  // namespace

std::optional<int64_t> parse_size(std::string_view text) {
  const auto number = take_number(text);
  if (!number) return std::nullopt;
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  for (const auto& [name, factor] : kSizes) {
    if (name != text) continue;
    const double bytes = std::floor(*number * factor);
    if (!(bytes <= 1152921504606846976.0)) return std::nullopt;  // 2^60
    return static_cast<int64_t>(bytes);
  }
  return std::nullopt;
}

std::optional<double> parse_duration(std::string_view text) {
  double seconds = 0;
  size_t next_unit = 0;  // units come from large to small, each at most once
  do {
    const auto number = take_number(text);
    if (!number) return std::nullopt;
    if (text.empty() && next_unit == 0) return number;
    size_t unit = next_unit;
    while (unit < kDurations.size() && !text.starts_with(kDurations[unit].name)) ++unit;
    if (unit == kDurations.size()) return std::nullopt;
    seconds += *number * kDurations[unit].factor;
    text.remove_prefix(1);
    next_unit = unit + 1;
  } while (!text.empty());
  return seconds;
}

}  // namespace nemo
