#include "lib/weights/weight_source.h"

#include <array>

#include "kernels/error.h"

namespace nemo {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  int64_t size;
};

constexpr std::array kDTypes = {
    DTypeRow{DType::kBool, "BOOL", 1},      DTypeRow{DType::kU8, "U8", 1},
    DTypeRow{DType::kI8, "I8", 1},          DTypeRow{DType::kF8E4M3, "F8_E4M3", 1},
    DTypeRow{DType::kF8E5M2, "F8_E5M2", 1}, DTypeRow{DType::kI16, "I16", 2},
    DTypeRow{DType::kU16, "U16", 2},        DTypeRow{DType::kF16, "F16", 2},
    DTypeRow{DType::kBF16, "BF16", 2},      DTypeRow{DType::kI32, "I32", 4},
    DTypeRow{DType::kU32, "U32", 4},        DTypeRow{DType::kF32, "F32", 4},
    DTypeRow{DType::kI64, "I64", 8},        DTypeRow{DType::kU64, "U64", 8},
    DTypeRow{DType::kF64, "F64", 8},
};

const DTypeRow& row_of(DType dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (row.dtype == dtype) return row;
  }
  throw_broken_invariant("dtype is in kDTypes", std::to_string(static_cast<int>(dtype)));
}

}  // namespace

int64_t dtype_size(DType dtype) {
  return row_of(dtype).size;
}

std::string_view dtype_name(DType dtype) {
  return row_of(dtype).name;
}

std::optional<DType> find_dtype(std::string_view name) {
  for (const DTypeRow& row : kDTypes) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

int64_t TensorInfo::num_elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace nemo
