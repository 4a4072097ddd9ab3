#include "kernels/ops/matmul.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "kernels/error.h"

namespace nemo::kernels {
namespace {

constexpr int64_t kBlock = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Index of W[row, column] in the packed layout, in elements.
int64_t packed_index(DType dtype, int64_t k, int64_t row, int64_t column) {
  const int64_t block = row / kBlock, lane = row % kBlock;
  if (dtype == DType::kFloat32) return (block * k + column) * kBlock + lane;
  return ((block * ceil_div(k, 2) + column / 2) * kBlock + lane) * 2 + column % 2;
}

template <class Stored, class Given, class Convert>
void store_rows(std::byte* data, DType dtype, int64_t k, int64_t row_begin, TensorView<const Given> rows,
                Convert convert) {
  auto* stored = reinterpret_cast<Stored*>(data);
  for (int64_t i = 0; i < rows.rows; ++i)
    for (int64_t j = 0; j < k; ++j)
      stored[packed_index(dtype, k, row_begin + i, j)] = convert(rows.row(i)[j]);
}

}  // namespace

int64_t PackedMatrix::packed_bytes(DType dtype, int64_t n, int64_t k) {
  return ceil_div(n, kBlock) * kBlock * (dtype == DType::kFloat32 ? k * 4 : ceil_div(k, 2) * 4);
}

void PackedMatrix::Free::operator()(std::byte* pointer) const {
  std::free(pointer);
}

PackedMatrix::PackedMatrix(DType dtype, int64_t n, int64_t k)
    : dtype_(dtype), n_(n), k_(k), bytes_(packed_bytes(dtype, n, k)) {
  NEMO_CHECK(n >= 0 && k >= 0, std::to_string(n) + " x " + std::to_string(k));
  if (bytes_ == 0) return;
  void* pointer = nullptr;
  const bool huge = bytes_ >= kHugePage;
  if (posix_memalign(&pointer, huge ? kHugePage : 64, static_cast<size_t>(bytes_)) != 0)
    throw std::bad_alloc();
  data_.reset(static_cast<std::byte*>(pointer));
  if (huge)
    madvise(pointer, static_cast<size_t>(bytes_),
            MADV_HUGEPAGE);  // advice: a kernel without it is only slower
  std::memset(pointer, 0, static_cast<size_t>(bytes_));
}

void PackedMatrix::pack_rows(int64_t row_begin, TensorView<const float> rows) {
  NEMO_CHECK(rows.cols == k_ && row_begin >= 0 && row_begin + rows.rows <= n_, "rows do not fit the matrix");
  if (dtype_ == DType::kFloat32) {
    store_rows<float>(data_.get(), dtype_, k_, row_begin, rows, [](float x) { return x; });
  } else {
    store_rows<bf16>(data_.get(), dtype_, k_, row_begin, rows, [](float x) { return bf16::from_float(x); });
  }
}

void PackedMatrix::pack_rows(int64_t row_begin, TensorView<const bf16> rows) {
  NEMO_CHECK(rows.cols == k_ && row_begin >= 0 && row_begin + rows.rows <= n_, "rows do not fit the matrix");
  if (dtype_ == DType::kFloat32) {
    store_rows<float>(data_.get(), dtype_, k_, row_begin, rows, [](bf16 x) { return x.to_float(); });
  } else {
    store_rows<bf16>(data_.get(), dtype_, k_, row_begin, rows, [](bf16 x) { return x; });
  }
}

void matmul(const Context& context, TensorView<const float> x, const PackedMatrix& weight,
            TensorView<float> y) {
  const int64_t offsets[] = {0, x.rows};
  matmul_grouped(context, x, offsets, {&weight, 1}, y);
}

void matmul_grouped(const Context& context, TensorView<const float> x, std::span<const int64_t> offsets,
                    std::span<const PackedMatrix> weights, TensorView<float> y) {
  NEMO_CHECK(offsets.size() == weights.size() + 1, "one offset more than weights");
  NEMO_CHECK(x.rows == y.rows, "rows of x and y differ");
  for (size_t e = 0; e < weights.size(); ++e) {
    const PackedMatrix& weight = weights[e];
    if (offsets[e] == offsets[e + 1]) continue;
    NEMO_CHECK(weight.k() == x.cols && weight.n() == y.cols, "shapes of x, W and y do not match");
    const int64_t k = weight.k(), n = weight.n();
    context.threads.run(ceil_div(n, kBlock), [&, begin = offsets[e], end = offsets[e + 1]](int64_t block) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = block * kBlock; j < std::min(n, (block + 1) * kBlock); ++j) {
          float sum = 0.0f;
          for (int64_t t = 0; t < k; ++t) {
            const int64_t at = packed_index(weight.dtype(), k, j, t);
            const float w = weight.dtype() == DType::kFloat32
                                ? reinterpret_cast<const float*>(weight.data())[at]
                                : reinterpret_cast<const bf16*>(weight.data())[at].to_float();
            sum += round_to(weight.dtype(), x.row(i)[t]) * w;
          }
          y.row(i)[j] = sum;
        }
      }
    });
  }
}

void add_bias(const Context& context, std::span<const float> bias, TensorView<float> y) {
  NEMO_CHECK(static_cast<int64_t>(bias.size()) == y.cols, "one bias per column");
  context.threads.run(y.rows, [&](int64_t i) {
    for (int64_t j = 0; j < y.cols; ++j) y.row(i)[j] += bias[static_cast<size_t>(j)];
  });
}

}  // namespace nemo::kernels
