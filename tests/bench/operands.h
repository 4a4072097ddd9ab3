// Operands of the cases.
#pragma once

#include <random>
#include <vector>

#include "kernels/types.h"

namespace nemo::bench {

/// Random numbers in (-scale, scale).
struct Matrix {
  std::vector<float> values;
  int64_t rows, cols;
  Matrix(int64_t rows_, int64_t cols_, float scale = 1.0f)
      : values(static_cast<size_t>(rows_ * cols_)), rows(rows_), cols(cols_) {
    std::mt19937 random(static_cast<unsigned>(rows_ * 31 + cols_));
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (float& value : values) value = uniform(random);
  }
  kernels::TensorView<float> view() { return {values.data(), rows, cols}; }
};

}  // namespace nemo::bench
