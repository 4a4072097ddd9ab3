#include "kernels/ops/matmul.h"

#include "kernels/error.h"
#include "tests/kernels/row_purity.h"

namespace nemo::kernels {
namespace {

PackedMatrix pack(DType dtype, const Matrix& w) {
  PackedMatrix packed(dtype, w.rows(), w.cols());
  packed.pack_rows(0, w.view());
  return packed;
}

class MatmulTest : public KernelTest {
 protected:
  /// y = x W^T against sums in double. fp32 sums of k products err by at most k * 2^-24 of the sum of
  /// magnitudes; random signs leave far less, and a sum in a wrong place leaves far more.
  void check(DType dtype, int64_t rows, int64_t n, int64_t k) {
    const Matrix x = random_matrix(random_, rows, k), w = random_matrix(random_, n, k);
    Matrix y(rows, n);
    matmul(context(dtype), x.view(), pack(dtype, w), y.view());
    ASSERT_TRUE(y.intact());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0, magnitude = 0;
        for (int64_t t = 0; t < k; ++t) {
          const double product = double{rounded(dtype, x(i, t))} * rounded(dtype, w(j, t));
          sum += product;
          magnitude += std::abs(product);
        }
        ASSERT_NEAR(y(i, j), sum, 1e-30 + 6e-8 * std::sqrt(static_cast<double>(k) + 16) * magnitude)
            << rows << " x " << n << " x " << k << " at " << i << ", " << j;
      }
  }
};

TEST_P(MatmulTest, AgreesWithDoublePrecision) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 11, 13, 16, 17, 33}) check(dtype, rows, 70, 37);
    for (int64_t n : {1, 15, 16, 17, 63, 64, 65, 129}) check(dtype, 5, n, 64);
    for (int64_t k : {1, 2, 3, 255, 256, 257, 511}) check(dtype, 4, 20, k);
    check(dtype, 0, 20, 20);
    check(dtype, 30, 130, 4099);  // sums interrupted at segment ends
    check(dtype, 200, 65, 24);
    check(dtype, 1, 64 * 37 + 5, 301);  // one row reads several blocks side by side
  }
}

TEST_P(MatmulTest, EmptyInnerDimensionGivesZero) {
  const Matrix x(3, 0), w(5, 0);
  Matrix y(3, 5);
  matmul(context(DType::kBFloat16), x.view(), pack(DType::kBFloat16, w), y.view());
  expect_close(
      y, [](int64_t, int64_t) { return 0.0; }, 0, 0);
}

TEST_P(MatmulTest, IsRowPure) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const PackedMatrix weight = pack(dtype, random_matrix(random_, 131, 2309));
    const RowOp op = [&](std::vector<Matrix>& in, Matrix& y) {
      matmul(context(dtype), in[0].view(), weight, y.view());
    };
    expect_row_pure(op, {random_matrix(random_, 14, 2309)}, 131);
  }
}

TEST_P(MatmulTest, OrderOfTheSumIsFixedForAdversarialValues) {
  // 1e20 + 1 - 1e20 + ...: any other order of summation gives another result.
  const int64_t k = 4500, n = 70;
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Matrix x(23, k), w(n, k);
    const float values[] = {1e20f, 1.0f, -1e20f, 3.0f, 7.0f};
    std::uniform_int_distribution<int> pick(0, 4);
    for (int64_t i = 0; i < x.rows(); ++i)
      for (int64_t t = 0; t < k; ++t) x(i, t) = values[pick(random_)];
    for (int64_t j = 0; j < n; ++j) std::fill_n(w.row(j), k, 1.0f);
    const PackedMatrix weight = pack(dtype, w);
    const RowOp op = [&](std::vector<Matrix>& in, Matrix& y) {
      matmul(context(dtype), in[0].view(), weight, y.view());
    };
    expect_row_pure(op, {x}, n);
  }
}

/// Both instructions for bfloat16 take subnormal numbers for zero, and make none.
float normal(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}
float add_product(float sum, float a, float b) {
  return normal(std::fma(normal(a), normal(b), sum));
}

/// vdpbf16ps adds the odd product of a pair, then the even one.
float sum_of_pairs(const float* x, const float* w, int64_t k) {
  float sum = 0;
  for (int64_t t = 0; t < k; t += 2) sum = add_product(add_product(sum, x[t + 1], w[t + 1]), x[t], w[t]);
  return sum;
}

/// TDPBF16PS sums the even and the odd products of 32, then adds the two, then that to the sum.
float sum_of_tiles(const float* x, const float* w, int64_t k) {
  float sum = 0;
  for (int64_t begin = 0; begin < k; begin += 32) {
    float halves[2] = {};
    for (int64_t t = begin; t < std::min(k, begin + 32); ++t)
      halves[t % 2] = add_product(halves[t % 2], x[t], w[t]);
    sum = normal(sum + normal(halves[0] + halves[1]));
  }
  return sum;
}

TEST_P(MatmulTest, SumsInTheOrderOfTheInstructions) {
  if (GetParam().isa < Isa::kAvx512Bf16) GTEST_SKIP() << "this one has no instruction for bfloat16";
  const int64_t rows = 19, n = 70, k = 318;
  Matrix x = random_matrix(random_, rows, k), w = random_matrix(random_, n, k);
  std::uniform_int_distribution<int> exponent(-70, 3);  // many products and sums are subnormal
  for (Matrix* m : {&x, &w})
    for (int64_t i = 0; i < m->rows(); ++i)
      for (int64_t t = 0; t < k; ++t)
        (*m)(i, t) = rounded(DType::kBFloat16, std::ldexp((*m)(i, t), i % 3 == 0 ? exponent(random_) : 0));
  for (int64_t t = 0; t < k; ++t) x(1, t) = std::ldexp(x(1, t), -125);
  Matrix y(rows, n);
  matmul(context(DType::kBFloat16), x.view(), pack(DType::kBFloat16, w), y.view());
  const auto sum = GetParam().isa == Isa::kAmx ? sum_of_tiles : sum_of_pairs;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < n; ++j) {
      const float expected = sum(x.row(i), w.row(j), k) + 0.0f;
      ASSERT_TRUE(same_bits(&y(i, j), &expected, 1)) << i << ", " << j << ": " << y(i, j) << ", " << expected;
    }
}

TEST_P(MatmulTest, GroupedEqualsOneByOne) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const int64_t n = 100, k = 301;
    std::vector<PackedMatrix> weights;
    std::vector<int64_t> offsets = {0};
    for (int64_t rows : {3, 0, 1, 17, 0, 0, 6, 40, 2}) {
      weights.push_back(pack(dtype, random_matrix(random_, n, k)));
      offsets.push_back(offsets.back() + rows);
    }
    const Matrix x = random_matrix(random_, offsets.back(), k);
    Matrix y(x.rows(), n), expected(x.rows(), n);
    matmul_grouped(context(dtype), x.view(), offsets, weights, y.view());
    for (size_t e = 0; e < weights.size(); ++e) {
      const int64_t count = offsets[e + 1] - offsets[e];
      matmul(context(dtype), x.view().slice_rows(offsets[e], count), weights[e],
             expected.view().slice_rows(offsets[e], count));
    }
    EXPECT_TRUE(y.intact());
    for (int64_t i = 0; i < x.rows(); ++i)
      ASSERT_TRUE(same_bits(y.row(i), expected.row(i), n)) << "row " << i;
  }
}

TEST_P(MatmulTest, GroupedTakesNoWeightsAndNoRows) {
  const Matrix x(0, 8);
  Matrix y(0, 4);
  const std::vector<int64_t> none = {0}, empty = {0, 0};
  matmul_grouped(context(DType::kFloat32), x.view(), none, {}, y.view());
  const PackedMatrix weight(DType::kFloat32, 4, 8);
  matmul_grouped(context(DType::kFloat32), x.view(), empty, {&weight, 1}, y.view());
  EXPECT_TRUE(y.intact());
}

TEST_P(MatmulTest, RefusesWrongShapes) {
  const PackedMatrix weight(DType::kFloat32, 4, 8);
  const Matrix x(2, 7);
  Matrix y(2, 4);
  EXPECT_THROW(matmul(context(DType::kFloat32), x.view(), weight, y.view()), Error);
}

TEST_P(MatmulTest, BiasIsAddedToEveryRow) {
  const Matrix x = random_matrix(random_, 5, 77);
  const std::vector<float> bias = random_vector(random_, 77);
  Matrix y = x;
  add_bias(context(DType::kFloat32), bias, y.view());
  expect_close(
      y, [&](int64_t i, int64_t j) { return x(i, j) + bias[static_cast<size_t>(j)]; }, 0, 0);
}

NEMO_INSTANTIATE(MatmulTest);

TEST(PackedMatrix, RoundTripThroughTheIdentity) {
  // Row t of the identity picks column t of W: what was packed comes out, rounded to W's type.
  std::mt19937 random(1);
  ThreadPool pool(1);
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const Context context{pool, detect_isa(), dtype};
    const int64_t n = 67, k = 31;
    const Matrix w = random_matrix(random, n, k);
    PackedMatrix packed(dtype, n, k);
    packed.pack_rows(40, w.view().slice_rows(40, 27));  // in pieces, out of order
    packed.pack_rows(0, w.view().slice_rows(0, 40));
    Matrix identity(k, k), y(k, n);
    for (int64_t t = 0; t < k; ++t)
      for (int64_t j = 0; j < k; ++j) identity(t, j) = t == j ? 1.0f : 0.0f;
    matmul(context, identity.view(), packed, y.view());
    expect_close(
        y, [&](int64_t t, int64_t j) { return rounded(dtype, w(j, t)); }, 0, 0);
  }
}

TEST(PackedMatrix, TakesBothKindsOfRows) {
  std::mt19937 random(2);
  const int64_t n = 5, k = 9;
  const Matrix w = random_matrix(random, n, k);
  MatrixOf<bf16> half(n, k);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j) half(i, j) = bf16::from_float(w(i, j));
  PackedMatrix from_float(DType::kBFloat16, n, k), from_half(DType::kBFloat16, n, k);
  from_float.pack_rows(0, w.view());
  from_half.pack_rows(0, half.view());
  EXPECT_EQ(from_float.bytes(), 5 * 64 * 4);
  EXPECT_EQ(std::memcmp(from_float.data(), from_half.data(), static_cast<size_t>(from_half.bytes())), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(from_half.data()) % 64, 0u);
}

TEST(PackedMatrix, RefusesRowsBeyondItsEnd) {
  PackedMatrix packed(DType::kFloat32, 4, 8);
  EXPECT_THROW(packed.pack_rows(3, Matrix(2, 8).view()), Error);
  EXPECT_THROW(packed.pack_rows(0, Matrix(1, 7).view()), Error);
}

}  // namespace
}  // namespace nemo::kernels
