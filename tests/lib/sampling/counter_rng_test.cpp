#include "lib/sampling/counter_rng.h"

#include <gtest/gtest.h>

#include <vector>

namespace nemo {
namespace {

// The known answers published with Philox4x32-10 (words 0 and 1 of each), turned into a number by hand.
double from_words(uint32_t low, uint32_t high) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 11;
  return static_cast<double>(bits | 1) / 9007199254740992.0;
}

TEST(UniformDraw, IsPhilox4x32With10Rounds) {
  EXPECT_EQ(uniform_draw(0, 0, 0, 0), from_words(0x6627e8d5, 0xe169c58d));
  EXPECT_EQ(uniform_draw(~0ULL, ~0ULL, ~0U, ~0U), from_words(0x408f276d, 0x41c83b0e));
  EXPECT_EQ(uniform_draw(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x13198a2e, 0x03707344),
            from_words(0xd16cfe09, 0x94fdcceb));
}

TEST(UniformDraw, DependsOnEachCoordinate) {
  const double origin = uniform_draw(1, 2, 3, 4);
  EXPECT_EQ(uniform_draw(1, 2, 3, 4), origin);
  EXPECT_NE(uniform_draw(2, 2, 3, 4), origin);
  EXPECT_NE(uniform_draw(1 + (1ULL << 32), 2, 3, 4), origin);
  EXPECT_NE(uniform_draw(1, 2 + (1ULL << 32), 3, 4), origin);
  EXPECT_NE(uniform_draw(1, 2, 4, 4), origin);
  EXPECT_NE(uniform_draw(1, 2, 3, 5), origin);
}

// Chi-square over 64 bins: 63 degrees of freedom, 0.999 quantile 103.4. The seed is fixed, so this passes
// always or never.
TEST(UniformDraw, IsUniformAlongPositions) {
  std::vector<int> bins(64);
  constexpr int kDraws = 64000;
  for (uint32_t position = 0; position < kDraws; ++position) {
    const double value = uniform_draw(5, 6, 7, position);
    ASSERT_GT(value, 0);
    ASSERT_LT(value, 1);
    ++bins[static_cast<size_t>(value * 64)];
  }
  double chi_square = 0;
  for (const int count : bins) chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi_square, 103.4);
}

}  // namespace
}  // namespace nemo
