// Where things lie in a block of 64 output columns of a PackedMatrix. Internal to kernels/cpu.
#pragma once

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {

/// Bytes that the first `k` input columns of a block take.
inline int64_t packed_block_bytes(WeightFormat format, int64_t k) {
  switch (format) {
    case WeightFormat::kFloat32:
      return k * kBlockColumns * 4;
    case WeightFormat::kBFloat16:
      return ceil_div(k, 2) * kBlockColumns * 4;
    case WeightFormat::kFp8:
      return ceil_div(k, 2) * kBlockColumns * 2;
    case WeightFormat::kNvfp4:
      return k / kNvfp4Block * kBlockColumns * (1 + kNvfp4Block / 2);
  }
  return 0;
}

// Quantized blocks hold the columns of a step in an order that suits the widening (simd/widen.h).

/// Place of a column's pair of e4m3 codes: 16 columns lie together, the first 8 of them beside the last 8.
constexpr int64_t fp8_place(int64_t column) {
  return column / 16 * 16 + column % 8 * 2 + column / 8 % 2;
}

/// Place of a column's block scale: 32 columns lie together, eights of them side by side, so that bytes 0 and
/// 2 of every 4 are the first 16.
constexpr int64_t nvfp4_scale_place(int64_t column) {
  return column / 32 * 32 + column % 8 * 4 + column / 8 % 2 * 2 + column / 16 % 2;
}

/// Place of a column's pair of e2m1 codes: as its scale's.
constexpr int64_t nvfp4_place(int64_t column) {
  return nvfp4_scale_place(column);
}

}  // namespace nemo::kernels
