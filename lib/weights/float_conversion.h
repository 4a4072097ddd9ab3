// Element types of checkpoints into those of kernels. Internal to lib/weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/config/quantization.h"
#include "lib/weights/weight_source.h"

namespace nemo {

/// True for the types the two functions below read: F32, F16, BF16.
bool is_plain_float(DType dtype);

/// What a matrix of that type in the file is: U8 is NVFP4, F8_E4M3 is FP8.
StoredAs stored_as(DType dtype);

/// Exact. Converts all of `bytes`; `out` has room for at least as many elements. float16 subnormals,
/// infinities and NaNs keep their values.
void widen_to_f32(DType dtype, std::span<const std::byte> bytes, std::span<float> out);

/// To raw bfloat16 bits: nearest, ties to even; NaN stays NaN, overflow gives infinity. bfloat16 is copied.
void round_to_bf16(DType dtype, std::span<const std::byte> bytes, std::span<uint16_t> out);

/// The number an e4m3 code stands for. Exact.
float e4m3_to_f32(std::byte code);

/// Rows of FP8: code * scale.
void dequantize_fp8(std::span<const std::byte> codes, float scale, std::span<float> out);

/// Rows of NVFP4: e2m1 * block scale, which is exact, then * scale. Two elements a byte, the even one in the
/// lower half; a block scale for every 16 elements.
void dequantize_nvfp4(std::span<const std::byte> pairs, std::span<const std::byte> block_scales, float scale,
                      std::span<float> out);

}  // namespace nemo
