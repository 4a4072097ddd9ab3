// Element types of checkpoints into those of kernels. Internal to lib/weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/weights/weight_source.h"

namespace nemo {

/// True for the types the two functions below read: F32, F16, BF16.
bool is_plain_float(DType dtype);

/// Exact. Converts all of `bytes`; `out` has room for at least as many elements. float16 subnormals,
/// infinities and NaNs keep their values.
void widen_to_f32(DType dtype, std::span<const std::byte> bytes, std::span<float> out);

/// To raw bfloat16 bits: nearest, ties to even; NaN stays NaN, overflow gives infinity. bfloat16 is copied.
void round_to_bf16(DType dtype, std::span<const std::byte> bytes, std::span<uint16_t> out);

}  // namespace nemo
