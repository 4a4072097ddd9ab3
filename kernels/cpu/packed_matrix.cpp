#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu/packed_block.h"
#include "kernels/cpu/packed_words.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/shape_text.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"
#include "kernels/ops/matmul.h"

namespace nemo::kernels {
namespace {

/// `cols`: what a row of `rows` has to have.
template <class Given>
void check_rows(const PackedMatrix& matrix, int64_t row_begin, TensorView<const Given> rows, int64_t cols) {
  NEMO_CHECK(rows.cols == cols && row_begin >= 0 && row_begin + rows.rows <= matrix.n(),
             shape_text(rows.rows, rows.cols)
                 .append(" from row ")
                 .append(std::to_string(row_begin))
                 .append(" into ")
                 .append(shape_text(matrix.n(), matrix.k())));
}

/// Calls store(block, begin, count) for the part of `num_rows` rows in each block.
template <class Store>
void for_each_block(int64_t row_begin, int64_t num_rows, const Store& store) {
  const int64_t row_end = row_begin + num_rows;
  for (int64_t begin = row_begin, end; begin < row_end; begin = end) {
    end = std::min(row_end, (begin / kBlockColumns + 1) * kBlockColumns);
    store(begin / kBlockColumns, begin, end - begin);
  }
}

/// Rows whose first is `row_begin` of the matrix, all of one block, by their place in it.
template <class T>
RowsByPlace by_place(int64_t row_begin, TensorView<const T> rows, int64_t (*place)(int64_t column)) {
  RowsByPlace result{};
  for (int64_t i = 0; i < rows.rows; ++i)
    result[static_cast<size_t>(place((row_begin + i) % kBlockColumns))] =
        reinterpret_cast<const std::byte*>(rows.row(i));
  return result;
}

/// Rows in a matrix's own type, the lines of which follow one another. A word is what lies together: a float,
/// or a pair of k.
template <class Word, class T>
void store_rows(std::byte* data, int64_t row_begin, TensorView<const T> rows,
                int64_t (*place)(int64_t column)) {
  constexpr int64_t kWordBytes = sizeof(Word), kLineBytes = kBlockColumns * kWordBytes;
  const int64_t row_bytes = rows.cols * static_cast<int64_t>(sizeof(T));
  const int64_t block_bytes = ceil_div(row_bytes, kWordBytes) * kLineBytes;
  for_each_block(row_begin, rows.rows, [&](int64_t block, int64_t begin, int64_t count) {
    store_words<Word>(by_place(begin, rows.slice_rows(begin - row_begin, count), place), row_bytes,
                      Lines<kLineBytes>{data + block * block_bytes});
  });
}

int64_t in_order(int64_t column) {
  return column;
}

/// Rows of floats or bf16 in a matrix of the other type, a block's rows at a time.
template <class Stored, class Given, class Convert>
void store_converted(std::byte* data, int64_t row_begin, TensorView<const Given> rows,
                     const Convert& convert) {
  const int64_t k = rows.cols;
  std::vector<Stored> converted(static_cast<size_t>(std::min(rows.rows, kBlockColumns) * k));
  for_each_block(row_begin, rows.rows, [&](int64_t, int64_t begin, int64_t count) {
    const auto given = rows.slice_rows(begin - row_begin, count);
    for (int64_t i = 0; i < count; ++i)
      std::transform(given.row(i), given.row(i) + k, converted.begin() + i * k, convert);
    store_rows<uint32_t>(data, begin, TensorView<const Stored>(converted.data(), count, k), in_order);
  });
}

}  // namespace

int64_t PackedMatrix::packed_bytes(WeightFormat format, int64_t n, int64_t k) {
  return ceil_div(n, kBlockColumns) * packed_block_bytes(format, k);
}

PackedMatrix::PackedMatrix(WeightFormat format, int64_t n, int64_t k, float scale)
    : format_(format), scale_(scale), n_(n), k_(k) {
  NEMO_CHECK(n >= 0 && k >= 0 && (format != WeightFormat::kNvfp4 || k % kNvfp4Block == 0), shape_text(n, k));
  data_ = LargeMemory(packed_bytes(format, n, k));
}

void PackedMatrix::pack_rows(int64_t row_begin, TensorView<const float> rows) {
  NEMO_CHECK(!is_quantized(format_), "rows of floats");
  check_rows(*this, row_begin, rows, k_);
  if (format_ == WeightFormat::kFloat32) {
    store_rows<uint32_t>(data_.data(), row_begin, rows, in_order);
  } else {
    store_converted<bf16>(data_.data(), row_begin, rows, bf16::from_float);
  }
}

void PackedMatrix::pack_rows(int64_t row_begin, TensorView<const bf16> rows) {
  NEMO_CHECK(!is_quantized(format_), "rows of floats");
  check_rows(*this, row_begin, rows, k_);
  if (format_ == WeightFormat::kFloat32) {
    store_converted<float>(data_.data(), row_begin, rows, [](bf16 x) { return x.to_float(); });
  } else {
    store_rows<uint32_t>(data_.data(), row_begin, rows, in_order);
  }
}

void PackedMatrix::pack_fp8_rows(int64_t row_begin, TensorView<const uint8_t> codes) {
  NEMO_CHECK(format_ == WeightFormat::kFp8, "rows of e4m3");
  check_rows(*this, row_begin, codes, k_);
  store_rows<uint16_t>(data_.data(), row_begin, codes, fp8_place);
}

void PackedMatrix::pack_nvfp4_rows(int64_t row_begin, TensorView<const uint8_t> pairs,
                                   TensorView<const uint8_t> block_scales) {
  NEMO_CHECK(format_ == WeightFormat::kNvfp4, "rows of e2m1");
  check_rows(*this, row_begin, pairs, k_ / 2);
  check_rows(*this, row_begin, block_scales, k_ / kNvfp4Block);
  NEMO_CHECK(pairs.rows == block_scales.rows, "scales for every row");
  // A line of scales, then the 8 of its pairs.
  constexpr int64_t kGroupBytes = kBlockColumns * (1 + kNvfp4Block / 2);
  using ScaleLines = Lines<kGroupBytes>;
  using PairLines = Lines<kBlockColumns, kBlockColumns>;
  for_each_block(row_begin, pairs.rows, [&](int64_t block, int64_t begin, int64_t count) {
    std::byte* data = data_.data() + block * packed_block_bytes(format_, k_);
    store_words<uint8_t>(
        by_place(begin, block_scales.slice_rows(begin - row_begin, count), nvfp4_scale_place),
        block_scales.cols, ScaleLines{data});
    store_words<uint8_t>(by_place(begin, pairs.slice_rows(begin - row_begin, count), nvfp4_place), pairs.cols,
                         PairLines{data + kBlockColumns});
  });
}

}  // namespace nemo::kernels
