// Matrix products with weights packed once. y = x W^T, W [n, k] as checkpoints store it.
//
// Row-pure: each y[i, j] is one sum over the whole of k in an order fixed by W's shape and the instruction
// set alone; work is split over rows and output columns only. The same packed layout serves 1 row and 512
// rows.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/context.h"
#include "kernels/large_memory.h"
#include "kernels/weight_format.h"

namespace nemo::kernels {

/// An owner of one weight matrix in kernel layout: blocks of 64 output columns, each of them
///   kFloat32   [k][64]
///   kBFloat16  [ceil(k/2)][64][2]
///   kFp8       [ceil(k/2)][64][2] bytes
///   kNvfp4     [k/16] times (64 block scales, then [8][64] pairs of nibbles, the lower one first); k is a
///              multiple of 16
/// zero-padded; in the quantized ones the 64 columns have an order of their own (cpu/packed_block.h).
/// Move-only.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Holds zeros; fill with pack_rows and its like. Finished sums are multiplied by `scale`: the one float
  /// scale of a quantized matrix; 1 otherwise.
  PackedMatrix(WeightFormat format, int64_t n, int64_t k, float scale = 1.0f);
  PackedMatrix(DType dtype, int64_t n, int64_t k) : PackedMatrix(weight_format(dtype), n, k) {}

  WeightFormat format() const { return format_; }
  float scale() const { return scale_; }
  int64_t n() const { return n_; }  ///< output columns
  int64_t k() const { return k_; }  ///< input columns
  int64_t bytes() const { return data_.num_bytes(); }
  static int64_t packed_bytes(WeightFormat format, int64_t n, int64_t k);
  static int64_t packed_bytes(DType dtype, int64_t n, int64_t k) {
    return packed_bytes(weight_format(dtype), n, k);
  }
  const std::byte* data() const { return data_.data(); }
  /// To be filled with what data() of another matrix of this format, n and k held.
  std::byte* data() { return data_.data(); }

  /// Stores rows [row_begin, row_begin + rows.rows) of W. float input is rounded to this matrix's format,
  /// which is not a quantized one.
  void pack_rows(int64_t row_begin, TensorView<const float> rows);
  void pack_rows(int64_t row_begin, TensorView<const bf16> rows);
  /// The same of a kFp8 matrix: e4m3 codes [rows, k].
  void pack_fp8_rows(int64_t row_begin, TensorView<const uint8_t> codes);
  /// The same of a kNvfp4 matrix: pairs of e2m1 codes [rows, k/2], the even column in the lower nibble, and
  /// the e4m3 scales of their blocks [rows, k/16].
  void pack_nvfp4_rows(int64_t row_begin, TensorView<const uint8_t> pairs,
                       TensorView<const uint8_t> block_scales);

 private:
  WeightFormat format_ = WeightFormat::kFloat32;
  float scale_ = 1.0f;
  int64_t n_ = 0, k_ = 0;
  LargeMemory data_;
};

/// y[rows, n] = x[rows, k] W^T. x is read in W's dtype, for quantized W in the context's (rounded to nearest
/// even if that is bfloat16; never quantized itself). Products are summed in fp32, y is fp32 and not rounded.
/// rows may be 0. With quantized W each y is scale() times, to the bit, what the same matrix gives without
/// its scale as kBFloat16 (or kFloat32, in a context of float32).
void matmul(const Context& context, TensorView<const float> x, const PackedMatrix& weight,
            TensorView<float> y);

/// The same for many experts at once: rows [offsets[e], offsets[e + 1]) of x go through weights[e].
/// x [rows, k], y [rows, n], offsets has weights.size() + 1 entries, all weights have one shape and format.
/// Equal to the bit to one matmul per expert.
void matmul_grouped(const Context& context, TensorView<const float> x, std::span<const int64_t> offsets,
                    std::span<const PackedMatrix> weights, TensorView<float> y);

/// y[i, :] += bias[n] for every row.
void add_bias(const Context& context, std::span<const float> bias, TensorView<float> y);

}  // namespace nemo::kernels
