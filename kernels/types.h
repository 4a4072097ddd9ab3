// Scalars and views that every op speaks. Activations are always held as float; what is *stored or sent* in
// bfloat16 (the residual stream, convolution columns, KV pages, inputs of matrix products) is rounded to
// nearest even at that point and is then exactly representable, so the wire can carry two bytes without loss.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace nemo::kernels {

/// Storage type of weights, KV pages and of the values a job rounds to.
enum class DType : uint8_t { kFloat32, kBFloat16 };

constexpr int64_t dtype_bytes(DType dtype) {
  return dtype == DType::kBFloat16 ? 2 : 4;
}

/// bfloat16: the upper half of a float.
struct bf16 {
  uint16_t bits = 0;

  /// Rounds to nearest even; NaN stays a (quiet) NaN.
  static constexpr bf16 from_float(float value) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((word >> 16) | 0x40u)};
    return {static_cast<uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16)};
  }
  constexpr float to_float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

/// The value that is left when `value` has been stored as `dtype`.
constexpr float round_to(DType dtype, float value) {
  return dtype == DType::kBFloat16 ? bf16::from_float(value).to_float() : value;
}

/// A borrowed row-major matrix [rows, cols]; consecutive rows lie `stride` elements apart (a column slice of
/// a wider matrix has stride > cols). Does not own; a copy is a copy of the view.
template <class T>
struct TensorView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  TensorView() = default;
  TensorView(T* data_, int64_t rows_, int64_t cols_) : TensorView(data_, rows_, cols_, cols_) {}
  TensorView(T* data_, int64_t rows_, int64_t cols_, int64_t stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  /// A view of mutable elements converts to a view of const ones.
  template <class U>
  requires(std::is_same_v<T, const U>) TensorView(const TensorView<U>& other)  // NOLINT: implicit by intent
      : TensorView(other.data, other.rows, other.cols, other.stride) {}

  T* row(int64_t i) const { return data + i * stride; }
  /// Columns [begin, begin + count).
  TensorView slice_cols(int64_t begin, int64_t count) const { return {data + begin, rows, count, stride}; }
  /// Rows [begin, begin + count).
  TensorView slice_rows(int64_t begin, int64_t count) const {
    return {data + begin * stride, count, cols, stride};
  }
};

/// The rows of one sequence in a step: rows [row_begin, row_begin + row_count) are its tokens at positions
/// [position, position + row_count). `slot` says where its decode state lies. position 0 means that the state
/// starts from zero, whatever an earlier owner of the slot has left there.
struct Segment {
  int64_t row_begin = 0;
  int64_t row_count = 0;
  int32_t slot = 0;
  int64_t position = 0;
};

}  // namespace nemo::kernels
