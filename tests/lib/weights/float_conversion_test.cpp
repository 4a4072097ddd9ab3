// Conversions of element types, over all 65,536 16-bit patterns where that is possible.
#include "lib/weights/float_conversion.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace nemo {
namespace {

std::vector<uint16_t> all_patterns() {
  std::vector<uint16_t> patterns(65536);
  std::iota(patterns.begin(), patterns.end(), uint16_t{0});
  return patterns;
}

/// The value of a binary16 pattern by its definition, in double precision.
double half_value(uint16_t bits) {
  const double sign = bits & 0x8000 ? -1 : 1;
  const int exponent = bits >> 10 & 31;
  const double fraction = bits & 1023;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

TEST(WidenToF32, EveryHalf) {
  const auto patterns = all_patterns();
  std::vector<float> values(patterns.size());
  widen_to_f32(DType::kF16, std::as_bytes(std::span(patterns)), values);
  for (const uint16_t bits : patterns) {
    const double expected = half_value(bits);
    const float value = values[bits];
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      EXPECT_EQ(static_cast<double>(value), expected) << bits;
      EXPECT_EQ(std::signbit(value), std::signbit(expected)) << bits;
    }
  }
}

TEST(WidenToF32, EveryBFloat16AndBack) {
  const auto patterns = all_patterns();
  std::vector<float> values(patterns.size());
  widen_to_f32(DType::kBF16, std::as_bytes(std::span(patterns)), values);
  std::vector<uint16_t> rounded(patterns.size());
  round_to_bf16(DType::kF32, std::as_bytes(std::span(values)), rounded);
  for (const uint16_t bits : patterns) {
    EXPECT_EQ(std::bit_cast<uint32_t>(values[bits]), static_cast<uint32_t>(bits) << 16);
    if (std::isnan(values[bits])) {
      EXPECT_EQ(rounded[bits], bits | 0x40);  // a NaN stays one and becomes quiet
    } else {
      EXPECT_EQ(rounded[bits], bits);
    }
  }
}

uint16_t rounded_bits(uint32_t float_bits) {
  const uint32_t source[1] = {float_bits};
  uint16_t result[1] = {};
  round_to_bf16(DType::kF32, std::as_bytes(std::span(source)), result);
  return result[0];
}

TEST(RoundToBf16, TiesGoToEven) {
  EXPECT_EQ(rounded_bits(0x3f807fff), 0x3f80);
  EXPECT_EQ(rounded_bits(0x3f808000), 0x3f80);  // a tie, even below
  EXPECT_EQ(rounded_bits(0x3f808001), 0x3f81);
  EXPECT_EQ(rounded_bits(0x3f818000), 0x3f82);  // a tie, even above
  EXPECT_EQ(rounded_bits(0x7f7fffff), 0x7f80);  // the largest float32 overflows to infinity
  EXPECT_EQ(rounded_bits(0xff800000), 0xff80);
  EXPECT_EQ(rounded_bits(0x7f800001), 0x7fc0);  // a NaN whose upper half would be infinity
  EXPECT_EQ(rounded_bits(0x00000001), 0x0000);
  EXPECT_EQ(rounded_bits(0x80000000), 0x8000);
}

TEST(RoundToBf16, NoBfloat16IsNearer) {
  std::mt19937 random(3);
  for (int i = 0; i < 100000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    const float value = std::bit_cast<float>(bits);
    if (!std::isfinite(value) || std::abs(value) > 3e38f) continue;
    const auto as_double = [](uint16_t pattern) {
      return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(pattern) << 16));
    };
    const uint16_t rounded = rounded_bits(bits);
    const double error = std::abs(as_double(rounded) - static_cast<double>(value));
    EXPECT_LE(error, std::abs(as_double(static_cast<uint16_t>(rounded + 1)) - static_cast<double>(value)));
    if ((rounded & 0x7fff) != 0) {
      EXPECT_LE(error, std::abs(as_double(static_cast<uint16_t>(rounded - 1)) - static_cast<double>(value)));
    }
  }
}

TEST(RoundToBf16, HalvesGoThroughTheirExactValue) {
  const uint16_t halves[] = {0x3c00, 0x3c01, 0x0001, 0x7bff, 0xfc00};  // 1, 1 + 2^-10, 2^-24, 65504, -inf
  std::vector<uint16_t> rounded(5);
  round_to_bf16(DType::kF16, std::as_bytes(std::span(halves)), rounded);
  EXPECT_EQ(rounded, (std::vector<uint16_t>{0x3f80, 0x3f80, 0x3380, 0x4780, 0xff80}));
}

TEST(Dequantize, Fp8AtItsCorners) {
  const std::byte codes[] = {std::byte{0x00}, std::byte{0x01}, std::byte{0x07}, std::byte{0x08},
                             std::byte{0x38}, std::byte{0x7e}, std::byte{0xfe}, std::byte{0x80}};
  std::vector<float> out(8);
  dequantize_fp8(codes, 2.0f, out);
  EXPECT_EQ(out, (std::vector<float>{0, 0x1p-8f, 7 * 0x1p-8f, 0x1p-5f, 2, 896, -896, -0.0f}));
  EXPECT_TRUE(std::isnan(e4m3_to_f32(std::byte{0x7f})) && std::isnan(e4m3_to_f32(std::byte{0xff})));
}

TEST(Dequantize, Nvfp4TakesTheLowerHalfFirst) {
  std::vector<std::byte> pairs(16);
  for (int i = 0; i < 16; ++i)
    pairs[static_cast<size_t>(i)] = std::byte{static_cast<uint8_t>(i | (15 - i) << 4)};
  const std::byte block_scales[] = {std::byte{0x38}, std::byte{0x40}};  // 1 and 2
  std::vector<float> out(32);
  dequantize_nvfp4(pairs, block_scales, 0.5f, out);
  EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + 6),
            (std::vector<float>{0, -3, 0.25f, -2, 0.5f, -1.5f}));
  EXPECT_EQ(std::vector<float>(out.begin() + 28, out.end()), (std::vector<float>{-4, 0.5f, -6, 0}));
}

TEST(Conversion, NothingIsWrittenBeyondTheElements) {
  const float source[] = {1, 2};
  std::vector<float> out(3, -7.0f);
  widen_to_f32(DType::kF32, std::as_bytes(std::span(source)), out);
  EXPECT_EQ(out, (std::vector<float>{1, 2, -7}));
}

}  // namespace
}  // namespace nemo
