#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/shape_text.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"
#include "kernels/ops/matmul.h"

namespace nemo::kernels {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

/// Columns of W stored for a whole block of rows before the next ones: their 16 KiB or 32 KiB stay in L1,
/// where a row alone would touch a line of memory for every element.
constexpr int64_t kPackColumns = 128;

/// Stores columns [k_begin, k_end) of one row: elements lie kBlockColumns apart, for bfloat16 in pairs of k.
template <class Stored, class Given, class Convert>
void store_row(std::byte* data, int64_t k, int64_t row, const Given* given, int64_t k_begin, int64_t k_end,
               Convert convert) {
  constexpr int64_t kStep = sizeof(Stored) == 2 ? 2 : 1;
  const int64_t block = row / kBlockColumns, lane = row % kBlockColumns;
  Stored* stored =
      reinterpret_cast<Stored*>(data) + (block * ceil_div(k, kStep) * kBlockColumns + lane) * kStep;
  for (int64_t j = k_begin; j < k_end; ++j)
    stored[j / kStep * kBlockColumns * kStep + j % kStep] = convert(given[j]);
}

template <class Stored, class Given, class Convert>
void store_rows(std::byte* data, const PackedMatrix& matrix, int64_t row_begin, TensorView<const Given> rows,
                Convert convert) {
  NEMO_CHECK(rows.cols == matrix.k() && row_begin >= 0 && row_begin + rows.rows <= matrix.n(),
             shape_text(rows)
                 .append(" from row ")
                 .append(std::to_string(row_begin))
                 .append(" into ")
                 .append(shape_text(matrix.n(), matrix.k())));
  const int64_t row_end = row_begin + rows.rows, k = matrix.k();
  for (int64_t begin = row_begin, end; begin < row_end; begin = end) {
    end = std::min(row_end, (begin / kBlockColumns + 1) * kBlockColumns);
    for (int64_t column = 0; column < k; column += kPackColumns)
      for (int64_t row = begin; row < end; ++row)
        store_row<Stored>(data, k, row, rows.row(row - row_begin), column, std::min(k, column + kPackColumns),
                          convert);
  }
}

}  // namespace

int64_t PackedMatrix::packed_bytes(DType dtype, int64_t n, int64_t k) {
  const int64_t steps = dtype == DType::kFloat32 ? k : ceil_div(k, 2);
  return ceil_div(n, kBlockColumns) * steps * kBlockColumns * 4;
}

void PackedMatrix::Free::operator()(std::byte* pointer) const {
  std::free(pointer);
}

PackedMatrix::PackedMatrix(DType dtype, int64_t n, int64_t k)
    : dtype_(dtype), n_(n), k_(k), bytes_(packed_bytes(dtype, n, k)) {
  NEMO_CHECK(n >= 0 && k >= 0, shape_text(n, k));
  if (bytes_ == 0) return;
  void* pointer = nullptr;
  const bool huge = bytes_ >= kHugePage;
  if (posix_memalign(&pointer, huge ? kHugePage : 64, static_cast<size_t>(bytes_)) != 0)
    throw std::bad_alloc();
  data_.reset(static_cast<std::byte*>(pointer));
  if (huge)
    madvise(pointer, static_cast<size_t>(bytes_), MADV_HUGEPAGE);  // advice: without it we are only slower
  std::memset(pointer, 0, static_cast<size_t>(bytes_));
}

void PackedMatrix::pack_rows(int64_t row_begin, TensorView<const float> rows) {
  if (dtype_ == DType::kFloat32) {
    store_rows<float>(data_.get(), *this, row_begin, rows, [](float x) { return x; });
  } else {
    store_rows<bf16>(data_.get(), *this, row_begin, rows, [](float x) { return bf16::from_float(x); });
  }
}

void PackedMatrix::pack_rows(int64_t row_begin, TensorView<const bf16> rows) {
  if (dtype_ == DType::kFloat32) {
    store_rows<float>(data_.get(), *this, row_begin, rows, [](bf16 x) { return x.to_float(); });
  } else {
    store_rows<bf16>(data_.get(), *this, row_begin, rows, [](bf16 x) { return x; });
  }
}

}  // namespace nemo::kernels
