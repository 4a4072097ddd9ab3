// The elementary functions of the row kernels against double precision. 1e-6 relative is what logits within
// 1e-4 of the reference implementation need; we hold 4 units in the last place.
#include "kernels/cpu/simd/table.h"
#include "tests/kernels/support.h"

namespace nemo::kernels {
namespace {

using Function = void (*)(const float*, int64_t, float*);

class MathTest : public ::testing::TestWithParam<Setting> {
 protected:
  void check(Function function, double (*reference)(double), float from, float to, double relative) {
    const int64_t n = 200'001;
    std::vector<float> x(static_cast<size_t>(n)), y(x.size());
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = from + (to - from) * static_cast<float>(i) / static_cast<float>(n - 1);
    function(x.data(), n, y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = reference(x[i]);
      if (std::abs(want) < 1.2e-38) {
        ASSERT_NEAR(y[i], want, 1.3e-38) << "at " << x[i];  // subnormal results
      } else if (std::isinf(static_cast<float>(want))) {
        ASSERT_EQ(y[i], static_cast<float>(want)) << "at " << x[i];
      } else {
        ASSERT_NEAR(y[i], want, relative * std::abs(want)) << "at " << x[i];
      }
    }
  }
  const RowKernels& kernels_ = row_kernels(GetParam().isa);
};

constexpr double kUlp = 1.0 / (1 << 23);

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}
double silu(double x) {
  return x / (1 + std::exp(-x));
}
double softplus(double x) {
  return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}
double exponential(double x) {
  return std::exp(x);
}

TEST_P(MathTest, AgreesWithDoublePrecision) {
  check(kernels_.exp, exponential, -110, 90, 2 * kUlp);
  check(kernels_.exp, exponential, -1, 1, 2 * kUlp);
  check(kernels_.sigmoid, sigmoid, -86, 100, 3 * kUlp);
  check(kernels_.sigmoid, sigmoid, -1, 1, 3 * kUlp);
  check(kernels_.silu, silu, -86, 100, 4 * kUlp);
  check(kernels_.silu, silu, -1e-3f, 1e-3f, 4 * kUlp);
  check(kernels_.softplus, softplus, -86, 100, 4 * kUlp);
  check(kernels_.softplus, softplus, -3, 3, 4 * kUlp);
}

TEST_P(MathTest, TakesEveryFloat) {
  const float nan = std::nanf(""), infinity = INFINITY;
  const float x[] = {nan, infinity, -infinity, 0.0f, -0.0f, 1e30f, -1e30f, 1e-40f};
  float y[8];
  kernels_.exp(x, 8, y);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(std::vector<float>(y + 1, y + 8), (std::vector<float>{infinity, 0, 1, 1, infinity, 0, 1}));
  kernels_.sigmoid(x, 8, y);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(std::vector<float>(y + 1, y + 8), (std::vector<float>{1, 0, 0.5f, 0.5f, 1, 0, 0.5f}));
  kernels_.softplus(x, 8, y);
  EXPECT_TRUE(std::isnan(y[0]));
  const float ln2 = 0.69314718f;
  EXPECT_EQ(std::vector<float>(y + 1, y + 8), (std::vector<float>{infinity, 0, ln2, ln2, 1e30f, 0, ln2}));
  kernels_.silu(x, 8, y);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], infinity);
  EXPECT_EQ(y[6], 0.0f);
}

TEST_P(MathTest, AnElementsBitsDoNotDependOnItsPlace) {
  std::mt19937 random(3);
  const std::vector<float> x = random_vector(random, 100, 5.0f);
  for (Function function : {kernels_.exp, kernels_.sigmoid, kernels_.silu, kernels_.softplus}) {
    std::vector<float> whole(100);
    function(x.data(), 100, whole.data());
    for (int64_t begin = 0; begin < 100; ++begin)
      for (int64_t n : {1, 3, 17, 33}) {
        if (begin + n > 100) continue;
        std::vector<float> part(static_cast<size_t>(n));
        function(x.data() + begin, n, part.data());
        ASSERT_TRUE(same_bits(part.data(), whole.data() + begin, n));
      }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MathTest, ::testing::ValuesIn([] {
                           std::vector<Setting> settings;
                           for (Setting setting : all_settings())
                             if (settings.empty() || settings.back().isa != setting.isa)
                               settings.push_back(setting);
                           return settings;
                         }()),
                         setting_name);

}  // namespace
}  // namespace nemo::kernels
