// The rule of all kernels, as a test: a row's output has the same bits alone, in any batch, at any place in
// it, whatever its neighbours hold.
#pragma once

#include <limits>

#include "tests/kernels/support.h"

namespace nemo::kernels {

/// Computes output (made by the caller, [rows, output_cols]) from inputs, all with the same number of rows.
using RowOp = std::function<void(std::vector<Matrix>& inputs, Matrix& output)>;

inline std::vector<Matrix> pick_rows(const std::vector<Matrix>& from, const std::vector<int64_t>& rows) {
  std::vector<Matrix> picked;
  for (const Matrix& matrix : from) {
    Matrix& part = picked.emplace_back(static_cast<int64_t>(rows.size()), matrix.cols());
    for (size_t i = 0; i < rows.size(); ++i)
      std::copy_n(matrix.row(rows[i]), matrix.cols(), part.row(static_cast<int64_t>(i)));
  }
  return picked;
}

inline Matrix run_rows(const RowOp& op, std::vector<Matrix> inputs, int64_t output_cols) {
  Matrix output(inputs[0].rows(), output_cols);
  op(inputs, output);
  EXPECT_TRUE(output.intact());
  return output;
}

/// Compares every row computed alone with the same row in batches of many sizes, and among poisoned
/// neighbours.
inline void expect_row_pure(const RowOp& op, const std::vector<Matrix>& inputs, int64_t output_cols) {
  const int64_t rows = inputs[0].rows();
  std::vector<Matrix> alone;
  for (int64_t i = 0; i < rows; ++i) alone.push_back(run_rows(op, pick_rows(inputs, {i}), output_cols));

  for (int64_t size = 0; size <= rows; ++size) {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < size; ++i) order.push_back((i * 7 + size) % rows);
    const Matrix batch = run_rows(op, pick_rows(inputs, order), output_cols);
    for (int64_t i = 0; i < size; ++i) {
      const int64_t row = order[static_cast<size_t>(i)];
      ASSERT_TRUE(same_bits(batch.row(i), alone[static_cast<size_t>(row)].row(0), output_cols))
          << "row " << row << " differs at place " << i << " of a batch of " << size;
    }
  }

  for (float poison :
       {std::numeric_limits<float>::quiet_NaN(), 1e20f, -1e20f, std::numeric_limits<float>::infinity()})
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<Matrix> poisoned = inputs;
      for (Matrix& matrix : poisoned)
        for (int64_t i = 0; i < rows; ++i)
          if (i != row) std::fill_n(matrix.row(i), matrix.cols(), poison);
      const Matrix batch = run_rows(op, poisoned, output_cols);
      ASSERT_TRUE(same_bits(batch.row(row), alone[static_cast<size_t>(row)].row(0), output_cols))
          << "row " << row << " sees its neighbours' " << poison;
    }
}

}  // namespace nemo::kernels
