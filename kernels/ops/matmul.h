// Matrix products with weights packed once. y = x W^T, W [n, k] as checkpoints store it.
//
// Row-pure: each y[i, j] is one sum over the whole of k in an order fixed by W's shape and the instruction
// set alone; work is split over rows and output columns only. The same packed layout serves 1 row and 512
// rows.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "kernels/context.h"

namespace nemo::kernels {

/// An owner of one weight matrix in kernel layout: blocks of 64 output columns,
/// [ceil(n/64)][ceil(k/2)][64][2] for bfloat16 and [ceil(n/64)][k][64] for float32, zero-padded. Move-only.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Allocates (64-byte aligned, huge pages advised) and zeroes; fill with pack_rows.
  PackedMatrix(DType dtype, int64_t n, int64_t k);

  DType dtype() const { return dtype_; }
  int64_t n() const { return n_; }  ///< output columns
  int64_t k() const { return k_; }  ///< input columns
  int64_t bytes() const { return bytes_; }
  static int64_t packed_bytes(DType dtype, int64_t n, int64_t k);
  const std::byte* data() const { return data_.get(); }

  /// Stores rows [row_begin, row_begin + rows.rows) of W. float input is rounded to this matrix's dtype.
  void pack_rows(int64_t row_begin, TensorView<const float> rows);
  void pack_rows(int64_t row_begin, TensorView<const bf16> rows);

 private:
  struct Free {
    void operator()(std::byte* pointer) const;
  };
  DType dtype_ = DType::kFloat32;
  int64_t n_ = 0, k_ = 0, bytes_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

/// y[rows, n] = x[rows, k] W^T. x is read in W's dtype (rounded to nearest even if that is bfloat16),
/// products are summed in fp32, y is fp32 and not rounded. rows may be 0.
void matmul(const Context& context, TensorView<const float> x, const PackedMatrix& weight,
            TensorView<float> y);

/// The same for many experts at once: rows [offsets[e], offsets[e + 1]) of x go through weights[e].
/// x [rows, k], y [rows, n], offsets has weights.size() + 1 entries, all weights have one shape and type.
/// Equal to the bit to one matmul per expert.
void matmul_grouped(const Context& context, TensorView<const float> x, std::span<const int64_t> offsets,
                    std::span<const PackedMatrix> weights, TensorView<float> y);

/// y[i, :] += bias[n] for every row.
void add_bias(const Context& context, std::span<const float> bias, TensorView<float> y);

}  // namespace nemo::kernels
