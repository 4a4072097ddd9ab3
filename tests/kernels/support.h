// What every kernel test needs: all instruction sets of this machine times 1, 2, 3 threads; matrices that
// notice a write beyond their rows; comparison of every element.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/context.h"

namespace nemo::kernels {

struct Setting {
  Isa isa = Isa::kScalar;
  int threads = 1;
};

/// Under a sanitizer, which makes them ten times slower, with one number of threads, but with every
/// instruction set: each touches memory in its own way, and divides work for threads by its own shape of
/// tiles.
inline std::vector<Setting> all_settings() {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  constexpr int kThreads[] = {3};
#else
  constexpr int kThreads[] = {1, 2, 3};
#endif
  std::vector<Setting> settings;
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx})
    for (int threads : kThreads)
      if (isa <= detect_isa()) settings.push_back({isa, threads});
  return settings;
}

inline std::string setting_name(const ::testing::TestParamInfo<Setting>& info) {
  return std::string(isa_name(info.param.isa)) + "_" + std::to_string(info.param.threads) + "threads";
}

class KernelTest : public ::testing::TestWithParam<Setting> {
 protected:
  Context context(DType dtype) { return {pool_, GetParam().isa, dtype}; }
  std::mt19937 random_{20240607};

 private:
  ThreadPool pool_{GetParam().threads};
};

#define NEMO_INSTANTIATE(Suite) \
  INSTANTIATE_TEST_SUITE_P(All, Suite, ::testing::ValuesIn(all_settings()), setting_name)

/// [rows, cols] with three sentinels after every row and a row of them at the end.
template <class T>
class MatrixOf {
 public:
  MatrixOf(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {
    data_.assign(static_cast<size_t>((rows + 1) * stride()), sentinel());
  }
  TensorView<T> view() { return {data_.data(), rows_, cols_, stride()}; }
  TensorView<const T> view() const { return {data_.data(), rows_, cols_, stride()}; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  T* row(int64_t i) { return view().row(i); }
  const T* row(int64_t i) const { return view().row(i); }
  T& operator()(int64_t i, int64_t j) { return row(i)[j]; }
  const T& operator()(int64_t i, int64_t j) const { return row(i)[j]; }

  /// True if nothing but [rows, cols] was ever written.
  bool intact() const {
    for (int64_t i = 0; i <= rows_; ++i)
      for (int64_t j = i == rows_ ? 0 : cols_; j < stride(); ++j)
        if (const T s = sentinel(); std::memcmp(&row(i)[j], &s, sizeof(T)) != 0) return false;
    return true;
  }

 private:
  static T sentinel() {
    if constexpr (sizeof(T) == 2) {
      return std::bit_cast<T>(uint16_t{0xABAB});
    } else {
      return std::bit_cast<T>(0xABABABABu);
    }
  }
  int64_t stride() const { return cols_ + 3; }
  int64_t rows_, cols_;
  std::vector<T> data_;
};

using Matrix = MatrixOf<float>;

inline void fill_random(std::mt19937& random, TensorView<float> view, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  for (int64_t i = 0; i < view.rows; ++i)
    for (int64_t j = 0; j < view.cols; ++j) view.row(i)[j] = normal(random);
}

inline Matrix random_matrix(std::mt19937& random, int64_t rows, int64_t cols, float scale = 1.0f) {
  Matrix matrix(rows, cols);
  fill_random(random, matrix.view(), scale);
  return matrix;
}

inline std::vector<float> random_vector(std::mt19937& random, int64_t size, float scale = 1.0f) {
  std::vector<float> values(static_cast<size_t>(size));
  fill_random(random, {values.data(), 1, size}, scale);
  return values;
}

/// Every element within absolute + relative * |reference|.
inline void expect_close(const Matrix& actual, const std::function<double(int64_t, int64_t)>& reference,
                         double absolute, double relative) {
  EXPECT_TRUE(actual.intact());
  for (int64_t i = 0; i < actual.rows(); ++i)
    for (int64_t j = 0; j < actual.cols(); ++j) {
      const double want = reference(i, j);
      ASSERT_NEAR(actual(i, j), want, absolute + relative * std::abs(want))
          << "row " << i << ", column " << j;
    }
}

inline bool same_bits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0;
}

inline float rounded(DType dtype, float x) {
  return round_to(dtype, x);
}

}  // namespace nemo::kernels
