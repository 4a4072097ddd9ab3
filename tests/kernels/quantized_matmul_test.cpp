// Products with FP8 and NVFP4 weights: to the bit those with the widened weights in bfloat16 or float32,
// times the matrix's scale.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/error.h"
#include "kernels/ops/matmul.h"
#include "tests/kernels/row_purity.h"

namespace nemo::kernels {
namespace {

float e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const float magnitude = (code & 0x7f) == 0x7f ? NAN
                          : exponent == 0       ? std::ldexp(static_cast<float>(fraction), -9)
                                          : std::ldexp(1.0f + static_cast<float>(fraction) / 8, exponent - 7);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

float e2m1(int code) {
  const float values[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  return (code & 8) != 0 ? -values[code & 7] : values[code & 7];
}

/// Codes as checkpoints store them, and the numbers they stand for without the matrix's scale.
struct Quantized {
  std::vector<uint8_t> codes, block_scales;
  Matrix values;
  WeightFormat format;

  int64_t n() const { return values.rows(); }
  int64_t k() const { return values.cols(); }
  TensorView<const uint8_t> code_rows() const {
    return {codes.data(), n(), format == WeightFormat::kFp8 ? k() : k() / 2};
  }
  TensorView<const uint8_t> scale_rows() const { return {block_scales.data(), n(), k() / kNvfp4Block}; }

  PackedMatrix pack(float scale) const {
    PackedMatrix packed(format, n(), k(), scale);
    pack_rows(packed, 0, n());
    return packed;
  }
  void pack_rows(PackedMatrix& packed, int64_t begin, int64_t end) const {
    const auto rows = code_rows().slice_rows(begin, end - begin);
    if (format == WeightFormat::kFp8) {
      packed.pack_fp8_rows(begin, rows);
    } else {
      packed.pack_nvfp4_rows(begin, rows, scale_rows().slice_rows(begin, end - begin));
    }
  }
};

uint8_t random_finite_code(std::mt19937& random) {
  const auto code = static_cast<uint8_t>(random());
  return (code & 0x7f) == 0x7f ? uint8_t{0} : code;
}

Quantized random_fp8(std::mt19937& random, int64_t n, int64_t k) {
  Quantized w{{}, {}, Matrix(n, k), WeightFormat::kFp8};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j) {
      w.codes.push_back(random_finite_code(random));
      w.values(i, j) = e4m3(w.codes.back());
    }
  return w;
}

Quantized random_nvfp4(std::mt19937& random, int64_t n, int64_t k) {
  Quantized w{{}, {}, Matrix(n, k), WeightFormat::kNvfp4};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j) {
      if (j % kNvfp4Block == 0) w.block_scales.push_back(random_finite_code(random));
      if (j % 2 == 0) w.codes.push_back(static_cast<uint8_t>(random()));
      w.values(i, j) = e2m1(w.codes.back() >> (j % 2 * 4) & 15) * e4m3(w.block_scales.back());
    }
  return w;
}

Quantized random_quantized(std::mt19937& random, WeightFormat format, int64_t n, int64_t k) {
  return format == WeightFormat::kFp8 ? random_fp8(random, n, k) : random_nvfp4(random, n, k);
}

constexpr WeightFormat kFormats[] = {WeightFormat::kFp8, WeightFormat::kNvfp4};

class QuantizedMatmulTest : public KernelTest {
 protected:
  void expect_bits_of_widened(const Quantized& w, DType dtype, int64_t rows) {
    expect_bits_of_widened(w, dtype, random_matrix(random_, rows, w.k()));
  }

  void expect_bits_of_widened(const Quantized& w, DType dtype, const Matrix& x) {
    const int64_t rows = x.rows();
    PackedMatrix widened(dtype, w.n(), w.k());
    widened.pack_rows(0, w.values.view());
    for (const float scale : {1.0f, 0.0123f}) {
      Matrix y(rows, w.n()), expected(rows, w.n());
      matmul(context(dtype), x.view(), w.pack(scale), y.view());
      matmul(context(dtype), x.view(), widened, expected.view());
      ASSERT_TRUE(y.intact());
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < w.n(); ++j) expected(i, j) *= scale;
        ASSERT_TRUE(same_bits(y.row(i), expected.row(i), w.n()))
            << rows << " x " << w.n() << " x " << w.k() << " row " << i;
      }
    }
  }
};

TEST_P(QuantizedMatmulTest, HasTheBitsOfTheWidenedMatrix) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const WeightFormat format : kFormats) {
      for (const int64_t rows : {0, 1, 2, 5, 6, 7, 40})
        expect_bits_of_widened(random_quantized(random_, format, 70, 48), dtype, rows);
      for (const int64_t n : {1, 15, 63, 64, 65, 129})
        expect_bits_of_widened(random_quantized(random_, format, n, 64), dtype, 3);
      for (const int64_t k : {0, 16, 112, 512, 528, 2304})  // pieces of 512 are widened at once
        expect_bits_of_widened(random_quantized(random_, format, 66, k), dtype, 4);
    }
    for (const int64_t k : {1, 2, 3, 127, 511, 513, 1301})
      for (const int64_t rows : {1, 4, 7}) expect_bits_of_widened(random_fp8(random_, 67, k), dtype, rows);
  }
}

TEST_P(QuantizedMatmulTest, HasTheBitsOfTheWidenedMatrixForXOfAnyMagnitude) {
  const auto any_finite = [&] {
    const auto bits = static_cast<uint32_t>(random_()) & 0xffff0000u;
    return (bits & 0x7f800000u) == 0x7f800000u ? 0.0f : std::bit_cast<float>(bits);
  };
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16})
    for (const WeightFormat format : kFormats)
      for (const int64_t rows : {1, 2, 3, 4, 9}) {
        const Quantized w = random_quantized(random_, format, 70, 32);
        Matrix x(rows, w.k());
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < w.k(); ++j) x(i, j) = any_finite();
        expect_bits_of_widened(w, dtype, x);
        for (int64_t i = 0; i < rows; ++i)  // subnormal numbers, the smallest of bfloat16 among them
          for (int64_t j = 0; j < w.k(); ++j) x(i, j) = std::ldexp(static_cast<float>(random_() % 256), -133);
        expect_bits_of_widened(w, dtype, x);
      }
}

TEST_P(QuantizedMatmulTest, IsRowPure) {
  for (const WeightFormat format : kFormats) {
    const PackedMatrix weight = random_quantized(random_, format, 131, 1200).pack(0.37f);
    const RowOp op = [&](std::vector<Matrix>& in, Matrix& y) {
      matmul(context(DType::kBFloat16), in[0].view(), weight, y.view());
    };
    expect_row_pure(op, {random_matrix(random_, 20, 1200)}, 131);  // 4 tiles take longer pieces than fewer
  }
}

TEST_P(QuantizedMatmulTest, GroupedEqualsOneByOneWithEveryMatrixsOwnScale) {
  for (const WeightFormat format : kFormats) {
    const int64_t n = 100, k = 304;
    std::vector<PackedMatrix> weights;
    std::vector<int64_t> offsets = {0};
    for (const int64_t rows : {3, 0, 17, 1}) {
      weights.push_back(
          random_quantized(random_, format, n, k).pack(0.1f * static_cast<float>(weights.size() + 1)));
      offsets.push_back(offsets.back() + rows);
    }
    const Matrix x = random_matrix(random_, offsets.back(), k);
    Matrix y(x.rows(), n), expected(x.rows(), n);
    matmul_grouped(context(DType::kBFloat16), x.view(), offsets, weights, y.view());
    for (size_t e = 0; e < weights.size(); ++e) {
      const int64_t count = offsets[e + 1] - offsets[e];
      matmul(context(DType::kBFloat16), x.view().slice_rows(offsets[e], count), weights[e],
             expected.view().slice_rows(offsets[e], count));
    }
    EXPECT_TRUE(y.intact());
    for (int64_t i = 0; i < x.rows(); ++i)
      ASSERT_TRUE(same_bits(y.row(i), expected.row(i), n)) << "row " << i;
  }
}

TEST_P(QuantizedMatmulTest, EveryCodeIsItsNumber) {
  // FP8: row j holds code j in its only column. NVFP4: every e2m1 code under every scale.
  Quantized fp8{{}, {}, Matrix(256, 1), WeightFormat::kFp8},
      nvfp4{{}, {}, Matrix(256, 16), WeightFormat::kNvfp4};
  for (int code = 0; code < 256; ++code) {
    fp8.codes.push_back(static_cast<uint8_t>(code));
    nvfp4.block_scales.push_back(static_cast<uint8_t>(code));
    for (int pair = 0; pair < 8; ++pair)
      nvfp4.codes.push_back(static_cast<uint8_t>(2 * pair + (2 * pair + 1) * 16));
  }
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Matrix one(1, 1), identity(16, 16), y8(1, 256), y4(16, 256);
    one(0, 0) = 1.0f;
    for (int64_t i = 0; i < 16; ++i)
      for (int64_t j = 0; j < 16; ++j) identity(i, j) = i == j ? 1.0f : 0.0f;
    matmul(context(dtype), one.view(), fp8.pack(1.0f), y8.view());
    matmul(context(dtype), identity.view(), nvfp4.pack(1.0f), y4.view());
    for (int code = 0; code < 256; ++code) {
      const float expected = e4m3(static_cast<uint8_t>(code));
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(y8(0, code))) << code;
        EXPECT_TRUE(std::isnan(y4(3, code))) << code;
        continue;
      }
      EXPECT_EQ(y8(0, code), expected) << code;
      for (int nibble = 0; nibble < 16; ++nibble)
        EXPECT_EQ(y4(nibble, code), e2m1(nibble) * expected) << nibble << " under " << code;
    }
  }
}

TEST_P(QuantizedMatmulTest, NanStaysInItsColumn) {
  const int64_t n = 130, k = 301;
  Quantized w = random_fp8(random_, n, k);
  const std::vector<std::pair<int64_t, int64_t>> places = {{0, 0}, {9, 7}, {64, 300}, {77, 128}, {129, 299}};
  for (const auto& [row, column] : places)
    w.codes[static_cast<size_t>(row * k + column)] = column % 2 == 0 ? 0x7f : 0xff;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const Matrix x = random_matrix(random_, 2, k);
    Matrix y(2, n);
    matmul(context(dtype), x.view(), w.pack(1.0f), y.view());
    for (int64_t j = 0; j < n; ++j) {
      const bool expected = std::any_of(places.begin(), places.end(), [&](auto p) { return p.first == j; });
      EXPECT_EQ(std::isnan(y(0, j)) && std::isnan(y(1, j)), expected) << j;
      EXPECT_EQ(std::isnan(y(0, j)) || std::isnan(y(1, j)), expected) << j;
    }
  }
}

TEST_P(QuantizedMatmulTest, NanScaleStaysInItsColumn) {
  const int64_t n = 130, k = 320;
  Quantized w = random_nvfp4(random_, n, k);
  const std::vector<int64_t> columns = {0, 9, 17, 31, 77, 129};
  for (const int64_t column : columns)
    w.block_scales[static_cast<size_t>(column * k / kNvfp4Block + column % 20)] =
        column % 2 == 0 ? 0x7f : 0xff;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16})
    for (const int64_t rows : {1, 2, 3, 8}) {
      Matrix y(rows, n);
      matmul(context(dtype), random_matrix(random_, rows, k).view(), w.pack(1.0f), y.view());
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < n; ++j)
          EXPECT_EQ(std::isnan(y(i, j)), std::find(columns.begin(), columns.end(), j) != columns.end())
              << "row " << i << " of " << rows << ", column " << j;
    }
}

TEST_P(QuantizedMatmulTest, RefusesMatricesOfSeveralFormats) {
  std::vector<PackedMatrix> weights;
  weights.push_back(random_fp8(random_, 4, 16).pack(1.0f));
  weights.push_back(random_nvfp4(random_, 4, 16).pack(1.0f));
  const Matrix x(2, 16);
  Matrix y(2, 4);
  const std::vector<int64_t> offsets = {0, 1, 2};
  EXPECT_THROW(matmul_grouped(context(DType::kBFloat16), x.view(), offsets, weights, y.view()), Error);
}

NEMO_INSTANTIATE(QuantizedMatmulTest);

TEST(QuantizedPackedMatrix, IsPackedInPiecesOfAnyOrder) {
  std::mt19937 random(3);
  for (const WeightFormat format : kFormats) {
    const Quantized w = random_quantized(random, format, 150, 48);
    PackedMatrix pieces(format, 150, 48);
    w.pack_rows(pieces, 40, 150);
    w.pack_rows(pieces, 0, 40);
    const PackedMatrix whole = w.pack(1.0f);
    EXPECT_EQ(whole.bytes(), format == WeightFormat::kFp8 ? 3 * 64 * 48 : 3 * 64 * (24 + 3));
    EXPECT_EQ(std::memcmp(pieces.data(), whole.data(), static_cast<size_t>(whole.bytes())), 0);
  }
}

TEST(QuantizedPackedMatrix, RefusesWhatDoesNotFit) {
  EXPECT_THROW(PackedMatrix(WeightFormat::kNvfp4, 4, 24), Error);
  PackedMatrix fp8(WeightFormat::kFp8, 4, 16), nvfp4(WeightFormat::kNvfp4, 4, 16);
  const std::vector<uint8_t> bytes(64);
  EXPECT_THROW(fp8.pack_rows(0, Matrix(4, 16).view()), Error);
  EXPECT_THROW(fp8.pack_fp8_rows(1, {bytes.data(), 4, 16}), Error);
  EXPECT_THROW(nvfp4.pack_fp8_rows(0, {bytes.data(), 4, 16}), Error);
  EXPECT_THROW(nvfp4.pack_nvfp4_rows(0, {bytes.data(), 4, 16}, {bytes.data(), 4, 1}), Error);
  EXPECT_THROW(nvfp4.pack_nvfp4_rows(0, {bytes.data(), 4, 8}, {bytes.data(), 4, 2}), Error);
}

}  // namespace
}  // namespace nemo::kernels
