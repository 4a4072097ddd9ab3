// e4m3 in double precision, by looking its numbers up.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace nemo::kernels {

/// The number of a code; 0x7f and 0xff are NaN.
inline double e4m3_number(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  if ((code & 0x7f) == 0x7f) return std::nan("");
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return code < 0x80 ? magnitude : -magnitude;
}

/// The code nearest to x, of two the even one; the largest for all beyond it; NaN for NaN.
inline uint8_t nearest_e4m3_code(float x) {
  static const std::vector<double> kNumbers = [] {
    std::vector<double> numbers;
    for (uint8_t code = 0; code < 0x7f; ++code) numbers.push_back(e4m3_number(code));
    return numbers;
  }();
  const auto sign = static_cast<uint8_t>(std::signbit(x) ? 0x80 : 0);
  if (std::isnan(x)) return sign | 0x7f;
  const double wanted = std::abs(double{x});
  const auto above = static_cast<size_t>(std::ranges::lower_bound(kNumbers, wanted) - kNumbers.begin());
  if (above == 0) return sign;
  if (above == kNumbers.size()) return sign | 0x7e;
  const double lead = (kNumbers[above] - wanted) - (wanted - kNumbers[above - 1]);
  const bool is_above = lead < 0 || (lead == 0 && above % 2 == 0);
  return sign | static_cast<uint8_t>(is_above ? above : above - 1);
}

inline float nearest_e4m3(float x) {
  return static_cast<float>(e4m3_number(nearest_e4m3_code(x)));
}

}  // namespace nemo::kernels
