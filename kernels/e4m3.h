// e4m3: eight bits, four of exponent (bias 7) and three of fraction. No infinities; 0x7f and 0xff are NaN.
#pragma once

#include <bit>
#include <cstdint>

namespace nemo::kernels {

struct e4m3 {
  uint8_t bits = 0;

  /// Rounds to nearest even. What is too large becomes the largest number, 448, with its sign, infinities
  /// too; NaN stays NaN.
  static constexpr e4m3 from_float(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    const uint32_t sign = word >> 24 & 0x80, magnitude = word & 0x7fffffff;
    if (magnitude > kInfinity) return {static_cast<uint8_t>(sign | 0x7f)};
    if (magnitude >= kLargest) return {static_cast<uint8_t>(sign | 0x7e)};
    if (magnitude < kSmallestNormal) {
      // Beside 2^14 a float has the steps of a subnormal number, 2^-9.
      const float beside = std::bit_cast<float>(magnitude) + 0x1p14f;
      return {static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(beside) & 0x0f))};
    }
    const uint32_t rounded = magnitude + 0x7ffff + (magnitude >> 20 & 1);
    return {static_cast<uint8_t>(sign | ((rounded >> 20) - ((127 - 7) << 3)))};
  }

 private:
  static constexpr uint32_t kInfinity = 0x7f800000;
  static constexpr uint32_t kLargest = std::bit_cast<uint32_t>(448.0f);
  static constexpr uint32_t kSmallestNormal = std::bit_cast<uint32_t>(0x1p-6f);
};

}  // namespace nemo::kernels
