#include "kernels/e4m3.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/kernels/e4m3_reference.h"

namespace nemo::kernels {
namespace {

void expect_nearest(float x) {
  ASSERT_EQ(e4m3::from_float(x).bits, nearest_e4m3_code(x)) << x;
  ASSERT_EQ(e4m3::from_float(-x).bits, nearest_e4m3_code(-x)) << -x;
}

TEST(E4m3, EveryNumberStaysAndTiesGoToTheEvenOne) {
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const auto number = static_cast<float>(e4m3_number(code)),
               next = static_cast<float>(e4m3_number(code + 1));
    ASSERT_EQ(e4m3::from_float(number).bits, code);
    const float middle = (number + next) / 2;
    for (const float x : {number, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, next)})
      expect_nearest(x);
  }
}

TEST(E4m3, EverythingElseIsRoundedToTheNearest) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> exponent(-140.0f, 12.0f);
  for (int i = 0; i < 20000; ++i) expect_nearest(std::exp2(exponent(random)));
}

TEST(E4m3, SaturatesAndKeepsNan) {
  for (const float x : {448.0f, 449.0f, 464.0f, 480.0f, 1e30f, INFINITY}) {
    EXPECT_EQ(e4m3::from_float(x).bits, 0x7e) << x;
    EXPECT_EQ(e4m3::from_float(-x).bits, 0xfe) << x;
  }
  EXPECT_EQ(e4m3::from_float(std::nanf("")).bits & 0x7f, 0x7f);
  EXPECT_EQ(e4m3::from_float(-0.0f).bits, 0x80);
}

}  // namespace
}  // namespace nemo::kernels
