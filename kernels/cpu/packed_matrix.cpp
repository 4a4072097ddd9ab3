#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <type_traits>

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

/// Four words of one row, as a register of every x86-64 and of ARM holds them.
typedef uint32_t Words __attribute__((vector_size(16)));

/// Stores words [0, num_words) of four rows: word w of them as four neighbours, at out + w * kBlockColumns. A
/// word is what lies together in a matrix that is not quantized: a float, or the two bf16 of a pair.
void store_four_rows(uint32_t* out, const std::byte* const rows[4], int64_t num_words) {
  int64_t w = 0;
  for (; w + 4 <= num_words; w += 4) {
    Words row[4];
    for (int64_t i = 0; i < 4; ++i) std::memcpy(&row[i], rows[i] + w * 4, sizeof(Words));
    const Words low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
    const Words low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    const Words high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
    const Words high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    const Words words[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                            __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                            __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                            __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
    for (int64_t i = 0; i < 4; ++i) std::memcpy(out + (w + i) * kBlockColumns, &words[i], sizeof(Words));
  }
  for (; w < num_words; ++w)
    for (int64_t i = 0; i < 4; ++i)
      std::memcpy(out + w * kBlockColumns + i, rows[i] + w * 4, sizeof(uint32_t));
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

/// Stores columns [k_begin, k_end) of `rows`, whose first is row `row` of a block's rows, as far as there are
/// four of them; returns the first row that is left. k_begin is even.
template <class T>
int64_t store_by_fours(std::byte* data, int64_t row, TensorView<const T> rows, int64_t k_begin,
                       int64_t k_end) {
  constexpr int64_t kStep = sizeof(uint32_t) / sizeof(T);
  const int64_t num_words = (k_end - k_begin) / kStep, k_whole = k_begin + num_words * kStep;
  for (int64_t done = 0; done + 4 <= rows.rows; done += 4, row += 4) {
    const std::byte* begins[4];
    for (int64_t i = 0; i < 4; ++i)
      begins[i] = reinterpret_cast<const std::byte*>(rows.row(done + i) + k_begin);
    const int64_t first_word = row / kBlockColumns * ceil_div(rows.cols, kStep) + k_begin / kStep;
    store_four_rows(reinterpret_cast<uint32_t*>(data) + first_word * kBlockColumns + row % kBlockColumns,
                    begins, num_words);
    for (int64_t i = 0; i < 4; ++i)
      store_row<T>(data, rows.cols, row + i, rows.row(done + i), k_whole, k_end, [](T x) { return x; });
  }
  return row;
}

template <class Stored, class Given, class Convert>
void store_rows(std::byte* data, const PackedMatrix& matrix, int64_t row_begin, TensorView<const Given> rows,
                Convert convert) {
  check_rows(matrix, row_begin, rows, matrix.k());
  const int64_t row_end = row_begin + rows.rows, k = matrix.k();
  for (int64_t begin = row_begin, end; begin < row_end; begin = end) {
    end = std::min(row_end, (begin / kBlockColumns + 1) * kBlockColumns);
    for (int64_t column = 0; column < k; column += kPackColumns) {
      const int64_t column_end = std::min(k, column + kPackColumns);
      int64_t row = begin;
      if constexpr (std::is_same_v<Stored, Given> && sizeof(Stored) > 1)
        row = store_by_fours(data, row, rows.slice_rows(row - row_begin, end - row), column, column_end);
      for (; row < end; ++row)
        store_row<Stored>(data, k, row, rows.row(row - row_begin), column, column_end, convert);
    }
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
