#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "kernels/cpu/packed_block.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/shape_text.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"
#include "kernels/ops/matmul.h"

namespace nemo::kernels {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

/// Makes fresh memory read as zero. Whole pages are handed back to the system, which clears a page when it is
/// first touched, on the thread that fills it: what is overwritten next is not written twice.
void clear(std::byte* memory, size_t num_bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  size_t whole = reinterpret_cast<uintptr_t>(memory) % page == 0 ? num_bytes / page * page : 0;
  if (whole > 0 && madvise(memory, whole, MADV_DONTNEED) != 0) whole = 0;  // memory may be locked
  std::memset(memory + whole, 0, num_bytes - whole);
}

/// Columns of W stored for a whole block of rows before the next ones: their 16 KiB or 32 KiB stay in L1,
/// where a row alone would touch a line of memory for every element.
constexpr int64_t kPackColumns = 128;

/// Stores columns [k_begin, k_end) of one row: elements lie kBlockColumns apart, all but floats in pairs of
/// k.
template <class Stored, class Given, class Convert>
void store_row(std::byte* data, int64_t k, int64_t row, const Given* given, int64_t k_begin, int64_t k_end,
               Convert convert) {
  constexpr int64_t kStep = sizeof(Stored) == 4 ? 1 : 2;
  const int64_t block = row / kBlockColumns, column = row % kBlockColumns;
  const int64_t lane = sizeof(Stored) == 1 ? fp8_place(column) : column;
  Stored* stored =
      reinterpret_cast<Stored*>(data) + (block * ceil_div(k, kStep) * kBlockColumns + lane) * kStep;
  for (int64_t j = k_begin; j < k_end; ++j)
    stored[j / kStep * kBlockColumns * kStep + j % kStep] = convert(given[j]);
}

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

template <class Stored, class Given, class Convert>
void store_rows(std::byte* data, const PackedMatrix& matrix, int64_t row_begin, TensorView<const Given> rows,
                Convert convert) {
  check_rows(matrix, row_begin, rows, matrix.k());
  const int64_t row_end = row_begin + rows.rows, k = matrix.k();
  for (int64_t begin = row_begin, end; begin < row_end; begin = end) {
    end = std::min(row_end, (begin / kBlockColumns + 1) * kBlockColumns);
    for (int64_t column = 0; column < k; column += kPackColumns)
      for (int64_t row = begin; row < end; ++row)
        store_row<Stored>(data, k, row, rows.row(row - row_begin), column, std::min(k, column + kPackColumns),
                          convert);
  }
}

/// 16 elements of one row and their scale.
void store_nvfp4_group(std::byte* data, int64_t k, int64_t row, int64_t group, const uint8_t* pairs,
                       uint8_t scale) {
  std::byte* out = data + row / kBlockColumns * packed_block_bytes(WeightFormat::kNvfp4, k) +
                   group * packed_block_bytes(WeightFormat::kNvfp4, kNvfp4Block);
  const int64_t column = row % kBlockColumns;
  out[nvfp4_scale_place(column)] = std::byte{scale};
  for (int64_t pair = 0; pair < kNvfp4Block / 2; ++pair)
    out[(1 + pair) * kBlockColumns + nvfp4_place(column)] = std::byte{pairs[pair]};
}

}  // namespace

int64_t PackedMatrix::packed_bytes(WeightFormat format, int64_t n, int64_t k) {
  return ceil_div(n, kBlockColumns) * packed_block_bytes(format, k);
}

void PackedMatrix::Free::operator()(std::byte* pointer) const {
  std::free(pointer);
}

PackedMatrix::PackedMatrix(WeightFormat format, int64_t n, int64_t k, float scale)
    : format_(format), scale_(scale), n_(n), k_(k), bytes_(packed_bytes(format, n, k)) {
  NEMO_CHECK(n >= 0 && k >= 0 && (format != WeightFormat::kNvfp4 || k % kNvfp4Block == 0), shape_text(n, k));
  if (bytes_ == 0) return;
  void* pointer = nullptr;
  const bool huge = bytes_ >= kHugePage;
  if (posix_memalign(&pointer, huge ? kHugePage : 64, static_cast<size_t>(bytes_)) != 0)
    throw std::bad_alloc();
  data_.reset(static_cast<std::byte*>(pointer));
  if (huge)
    madvise(pointer, static_cast<size_t>(bytes_), MADV_HUGEPAGE);  // advice: without it we are only slower
  clear(data_.get(), static_cast<size_t>(bytes_));
}

void PackedMatrix::pack_rows(int64_t row_begin, TensorView<const float> rows) {
  NEMO_CHECK(!is_quantized(format_), "rows of floats");
  if (format_ == WeightFormat::kFloat32) {
    store_rows<float>(data_.get(), *this, row_begin, rows, [](float x) { return x; });
  } else {
    store_rows<bf16>(data_.get(), *this, row_begin, rows, [](float x) { return bf16::from_float(x); });
  }
}

void PackedMatrix::pack_rows(int64_t row_begin, TensorView<const bf16> rows) {
  NEMO_CHECK(!is_quantized(format_), "rows of floats");
  if (format_ == WeightFormat::kFloat32) {
    store_rows<float>(data_.get(), *this, row_begin, rows, [](bf16 x) { return x.to_float(); });
  } else {
    store_rows<bf16>(data_.get(), *this, row_begin, rows, [](bf16 x) { return x; });
  }
}

void PackedMatrix::pack_fp8_rows(int64_t row_begin, TensorView<const uint8_t> codes) {
  NEMO_CHECK(format_ == WeightFormat::kFp8, "rows of e4m3");
  store_rows<uint8_t>(data_.get(), *this, row_begin, codes, [](uint8_t code) { return code; });
}

void PackedMatrix::pack_nvfp4_rows(int64_t row_begin, TensorView<const uint8_t> pairs,
                                   TensorView<const uint8_t> block_scales) {
  NEMO_CHECK(format_ == WeightFormat::kNvfp4, "rows of e2m1");
  check_rows(*this, row_begin, pairs, k_ / 2);
  check_rows(*this, row_begin, block_scales, k_ / kNvfp4Block);
  NEMO_CHECK(pairs.rows == block_scales.rows, "scales for every row");
  const int64_t row_end = row_begin + pairs.rows;
  for (int64_t begin = row_begin, end; begin < row_end; begin = end) {
    end = std::min(row_end, (begin / kBlockColumns + 1) * kBlockColumns);
    for (int64_t group = 0; group < block_scales.cols; ++group)  // by columns first: see kPackColumns
      for (int64_t row = begin; row < end; ++row)
        store_nvfp4_group(data_.get(), k_, row, group, pairs.row(row - row_begin) + group * kNvfp4Block / 2,
                          block_scales.row(row - row_begin)[group]);
  }
}

}  // namespace nemo::kernels
