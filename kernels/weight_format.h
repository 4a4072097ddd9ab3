// How a weight matrix is kept in memory. A type of its own beside DType: activations are never kept in the
// quantized formats.
#pragma once

#include "kernels/types.h"

namespace nemo::kernels {

enum class WeightFormat : uint8_t {
  kFloat32,
  kBFloat16,
  kFp8,    ///< e4m3 (no infinities; 0x7f and 0xff are NaN), one float scale for the matrix
  kNvfp4,  ///< e2m1, an e4m3 scale for every 16 elements of a row, one float scale for the matrix
};

constexpr WeightFormat weight_format(DType dtype) {
  return dtype == DType::kFloat32 ? WeightFormat::kFloat32 : WeightFormat::kBFloat16;
}

constexpr bool is_quantized(WeightFormat format) {
  return format == WeightFormat::kFp8 || format == WeightFormat::kNvfp4;
}

/// Elements of a row that share one block scale of NVFP4.
inline constexpr int64_t kNvfp4Block = 16;

}  // namespace nemo::kernels
