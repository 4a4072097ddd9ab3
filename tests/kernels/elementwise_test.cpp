#include "kernels/ops/elementwise.h"

#include "kernels/error.h"
#include "tests/kernels/row_purity.h"

namespace nemo::kernels {
namespace {

constexpr double kHalfUlpBf16 = 1.0 / 256;  // a bfloat16 beside the nearest one is as good as the nearest

class ElementwiseTest : public KernelTest {
 protected:
  double rounding(DType dtype) const { return dtype == DType::kBFloat16 ? kHalfUlpBf16 : 2e-6; }
};

constexpr DType kBoth[] = {DType::kFloat32, DType::kBFloat16};
constexpr int64_t kWidths[] = {1, 3, 16, 17, 64, 100, 257, 1000};

/// 1 / sqrt(mean of u(i, j)^2 + 1e-5) over every group of `width` columns: [rows][groups].
template <typename U>
std::vector<double> norm_scales(int64_t rows, int64_t groups, int64_t width, const U& u) {
  std::vector<double> scales;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t g = 0; g < groups; ++g) {
      double sum = 0;
      for (int64_t j = g * width; j < (g + 1) * width; ++j) sum += u(i, j) * u(i, j);
      scales.push_back(1 / std::sqrt(sum / static_cast<double>(width) + 1e-5));
    }
  return scales;
}

TEST_P(ElementwiseTest, EmbedCopiesRows) {
  const int64_t vocab = 11, hidden = 37;
  const std::vector<float> values = random_vector(random_, vocab * hidden);
  for (DType dtype : kBoth) {
    EmbeddingTable table{.dtype = dtype, .vocab_size = vocab, .hidden_size = hidden};
    table.rows = LargeMemory(vocab * hidden * (dtype == DType::kFloat32 ? 4 : 2));
    for (size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::kFloat32) {
        reinterpret_cast<float*>(table.rows.data())[i] = values[i];
      } else {
        reinterpret_cast<bf16*>(table.rows.data())[i] = bf16::from_float(values[i]);
      }
    }
    const std::vector<int32_t> ids = {10, 0, 3, 3};
    Matrix out(4, hidden);
    embed(context(dtype), ids, table, out.view());
    expect_close(
        out,
        [&](int64_t i, int64_t j) {
          return rounded(dtype, values[static_cast<size_t>(ids[static_cast<size_t>(i)] * hidden + j)]);
        },
        0, 0);
    const std::vector<int32_t> wrong = {0, 11};
    Matrix two(2, hidden);
    EXPECT_THROW(embed(context(dtype), wrong, table, two.view()), Error);
  }
}

TEST_P(ElementwiseTest, RmsNorm) {
  for (DType dtype : kBoth)
    for (int64_t width : kWidths) {
      const Matrix x = random_matrix(random_, 6, width, 3.0f);
      const std::vector<float> weight = random_vector(random_, width);
      Matrix y(6, width);
      rms_norm(context(dtype), x.view(), weight, 1e-5f, y.view());
      const std::vector<double> scales =
          norm_scales(x.rows(), 1, width, [&](int64_t i, int64_t j) { return double{x(i, j)}; });
      expect_close(
          y,
          [&](int64_t i, int64_t j) {
            return weight[static_cast<size_t>(j)] * x(i, j) * scales[static_cast<size_t>(i)];
          },
          1e-7, rounding(dtype));
    }
}

TEST_P(ElementwiseTest, GatedGroupRmsNorm) {
  for (int64_t groups : {1, 3})
    for (int64_t width : kWidths) {
      const int64_t cols = groups * width;
      const Matrix x = random_matrix(random_, 5, cols), gate = random_matrix(random_, 5, cols, 4.0f);
      const std::vector<float> weight = random_vector(random_, cols);
      Matrix out = x;  // in place
      gated_group_rms_norm(context(DType::kBFloat16), out.view(), gate.view(), weight, groups, 1e-5f,
                           out.view());
      const auto u = [&](int64_t i, int64_t j) {
        return x(i, j) * gate(i, j) / (1 + std::exp(-double{gate(i, j)}));
      };
      const std::vector<double> scales = norm_scales(x.rows(), groups, width, u);
      expect_close(
          out,
          [&](int64_t i, int64_t j) {
            return weight[static_cast<size_t>(j)] * u(i, j) *
                   scales[static_cast<size_t>(i * groups + j / width)];
          },
          1e-7, 3e-6);
    }
}

TEST_P(ElementwiseTest, PointwiseOps) {
  for (DType dtype : kBoth)
    for (int64_t width : kWidths) {
      const Matrix a = random_matrix(random_, 4, width), b = random_matrix(random_, 4, width);
      Matrix y = a;
      relu2(context(dtype), y.view());
      expect_close(
          y, [&](int64_t i, int64_t j) { return a(i, j) > 0 ? a(i, j) * a(i, j) : 0.0f; }, 0, 0);
      y = a;
      add_residual(context(dtype), b.view(), y.view());
      expect_close(
          y, [&](int64_t i, int64_t j) { return rounded(dtype, a(i, j) + b(i, j)); }, 0, 0);
      y = a;
      add(context(dtype), b.view(), y.view());
      expect_close(
          y, [&](int64_t i, int64_t j) { return a(i, j) + b(i, j); }, 0, 0);
      y = a;
      round_rows(context(dtype), y.view());
      expect_close(
          y, [&](int64_t i, int64_t j) { return rounded(dtype, a(i, j)); }, 0, 0);
    }
}

TEST_P(ElementwiseTest, RoundingIsThatOfTheScalarType) {
  // Every upper half, with lower halves at, below and above a tie: subnormal numbers, infinities and NaN
  // among them.
  Matrix x(64, 6 * 1024);
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t j = 0; j < 1024; ++j) {
      const auto upper = static_cast<uint32_t>(i * 1024 + j) << 16;
      const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
      for (int64_t t = 0; t < 6; ++t) x(i, j * 6 + t) = std::bit_cast<float>(upper | lower[t]);
    }
  MatrixOf<bf16> half(x.rows(), x.cols());
  Matrix back(x.rows(), x.cols()), in_place = x;
  to_bf16(context(DType::kBFloat16), x.view(), half.view());
  to_float(context(DType::kBFloat16), half.view(), back.view());
  round_rows(context(DType::kBFloat16), in_place.view());
  EXPECT_TRUE(half.intact() && back.intact() && in_place.intact());
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t j = 0; j < x.cols(); ++j) {
      const bf16 want = bf16::from_float(x(i, j));
      ASSERT_EQ(half(i, j).bits, want.bits) << std::bit_cast<uint32_t>(x(i, j));
      ASSERT_EQ(std::bit_cast<uint32_t>(back(i, j)), uint32_t{want.bits} << 16);
      ASSERT_EQ(std::bit_cast<uint32_t>(in_place(i, j)), uint32_t{want.bits} << 16);
    }
}

TEST_P(ElementwiseTest, NanStaysNan) {
  Matrix x(1, 3);
  std::fill_n(x.row(0), 3, std::nanf(""));
  relu2(context(DType::kBFloat16), x.view());
  round_rows(context(DType::kBFloat16), x.view());
  for (int64_t j = 0; j < 3; ++j) EXPECT_TRUE(std::isnan(x(0, j)));
}

TEST_P(ElementwiseTest, IsRowPure) {
  const int64_t width = 210;
  const std::vector<float> weight = random_vector(random_, width);
  const std::vector<Matrix> one = {random_matrix(random_, 9, width)};
  const std::vector<Matrix> two = {random_matrix(random_, 9, width), random_matrix(random_, 9, width)};
  for (DType dtype : kBoth) {
    const Context ctx = context(dtype);
    const auto in_place = [](Matrix& from, Matrix& to) {
      for (int64_t i = 0; i < from.rows(); ++i) std::copy_n(from.row(i), from.cols(), to.row(i));
    };
    expect_row_pure([&](auto& in, Matrix& y) { rms_norm(ctx, in[0].view(), weight, 1e-5f, y.view()); }, one,
                    width);
    expect_row_pure(
        [&](auto& in, Matrix& y) {
          gated_group_rms_norm(ctx, in[0].view(), in[1].view(), weight, 3, 1e-5f, y.view());
        },
        two, width);
    expect_row_pure(
        [&](auto& in, Matrix& y) {
          in_place(in[0], y);
          relu2(ctx, y.view());
        },
        one, width);
    expect_row_pure(
        [&](auto& in, Matrix& y) {
          in_place(in[0], y);
          add_residual(ctx, in[1].view(), y.view());
        },
        two, width);
  }
}

TEST_P(ElementwiseTest, WideRowsAreDividedAmongThreads) {
  const Matrix x = random_matrix(random_, 7, 20'000);
  const std::vector<float> weight(20'000, 1.0f);
  const RowOp op = [&](auto& in, Matrix& y) {
    rms_norm(context(DType::kFloat32), in[0].view(), weight, 0.0f, y.view());
  };
  expect_row_pure(op, {x}, 20'000);
}

NEMO_INSTANTIATE(ElementwiseTest);

}  // namespace
}  // namespace nemo::kernels
