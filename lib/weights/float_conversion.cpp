#include "lib/weights/float_conversion.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/error.h"

namespace nemo {
namespace {

// Bytes in a file have no alignment, hence memcpy.
template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

float bf16_to_f32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t exponent = bits >> 10 & 0x1fu;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24, exact in float32
    const float magnitude = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t widened = exponent == 31 ? 255 : exponent + (127 - 15);
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40u);  // quiet; never rounds to infinity
  const uint32_t rounding = 0x7fffu + (bits >> 16 & 1u);
  return static_cast<uint16_t>((bits + rounding) >> 16);
}

/// Calls `convert(i, value of element i)` for all elements.
template <typename Convert>
void for_each_float(DType dtype, std::span<const std::byte> bytes, const Convert& convert) {
  const size_t size = static_cast<size_t>(dtype_size(dtype));
  const size_t count = bytes.size() / size;
  const std::byte* data = bytes.data();
  switch (dtype) {
    case DType::kF32:
      for (size_t i = 0; i < count; ++i) convert(i, load<float>(data + i * size));
      return;
    case DType::kF16:
      for (size_t i = 0; i < count; ++i) convert(i, f16_to_f32(load<uint16_t>(data + i * size)));
      return;
    case DType::kBF16:
      for (size_t i = 0; i < count; ++i) convert(i, bf16_to_f32(load<uint16_t>(data + i * size)));
      return;
    default:
      throw_broken_invariant("dtype is a plain float", std::string(dtype_name(dtype)));
  }
}

}  // namespace

bool is_plain_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

StoredAs stored_as(DType dtype) {
  return dtype == DType::kU8 ? StoredAs::kNvfp4 : dtype == DType::kF8E4M3 ? StoredAs::kFp8 : StoredAs::kPlain;
}

void widen_to_f32(DType dtype, std::span<const std::byte> bytes, std::span<float> out) {
  NEMO_CHECK(bytes.size() / static_cast<size_t>(dtype_size(dtype)) <= out.size(), "room for every element");
  for_each_float(dtype, bytes, [&](size_t i, float value) { out[i] = value; });
}

void round_to_bf16(DType dtype, std::span<const std::byte> bytes, std::span<uint16_t> out) {
  NEMO_CHECK(bytes.size() / static_cast<size_t>(dtype_size(dtype)) <= out.size(), "room for every element");
  // Through float32 even from bfloat16: the value is representable, so nothing changes but a signalling NaN's
  // bit.
  for_each_float(dtype, bytes, [&](size_t i, float value) { out[i] = f32_to_bf16(value); });
}

float e4m3_to_f32(std::byte code) {
  const auto bits = std::to_integer<uint32_t>(code);
  const uint32_t exponent = bits >> 3 & 15u, fraction = bits & 7u;
  float magnitude = std::bit_cast<float>((exponent + (127 - 7)) << 23 | fraction << 20);
  if (exponent == 0) magnitude = std::ldexp(static_cast<float>(fraction), -9);
  if ((bits & 0x7fu) == 0x7fu) magnitude = std::numeric_limits<float>::quiet_NaN();  // there is no infinity
  return (bits & 0x80u) != 0 ? -magnitude : magnitude;
}

void dequantize_fp8(std::span<const std::byte> codes, float scale, std::span<float> out) {
  NEMO_CHECK(codes.size() == out.size(), "room for every element");
  for (size_t i = 0; i < codes.size(); ++i) out[i] = e4m3_to_f32(codes[i]) * scale;
}

void dequantize_nvfp4(std::span<const std::byte> pairs, std::span<const std::byte> block_scales, float scale,
                      std::span<float> out) {
  constexpr float kE2m1[] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                             -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  NEMO_CHECK(2 * pairs.size() == out.size() && 16 * block_scales.size() == out.size(),
             "blocks of 16 elements");
  for (size_t i = 0; i < out.size(); ++i) {
    const auto pair = std::to_integer<uint32_t>(pairs[i / 2]);
    out[i] = kE2m1[i % 2 == 0 ? pair & 15u : pair >> 4] * e4m3_to_f32(block_scales[i / 16]) * scale;
  }
}

}  // namespace nemo
