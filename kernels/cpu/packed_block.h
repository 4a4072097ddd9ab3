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

}  // namespace nemo::kernels
