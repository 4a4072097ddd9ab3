#include "lib/weights/safetensors.h"

#include <algorithm>
#include <optional>

#include "kernels/error.h"
#include "lib/config/json_text.h"

namespace nemo {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& file, const std::string& tensor, const std::string& what) {
  throw Error(file + ": tensor " + json_excerpt(json(tensor)), what, "the file is damaged; fetch it again");
}

std::optional<uint64_t> to_size(const json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return number;
}

DType read_dtype(const std::string& file, const std::string& name, const json& entry) {
  const auto value = entry.find("dtype");
  if (value == entry.end() || !value->is_string()) fail(file, name, "has no dtype");
  const auto dtype = find_dtype(value->get_ref<const std::string&>());
  if (!dtype) {
    throw Error(file + ": tensor " + json_excerpt(json(name)),
                "has the unknown dtype " + json_excerpt(*value), "");
  }
  return *dtype;
}

std::vector<int64_t> read_shape(const std::string& file, const std::string& name, const json& entry) {
  const auto value = entry.find("shape");
  if (value == entry.end() || !value->is_array()) fail(file, name, "has no shape");
  std::vector<int64_t> shape;
  for (const json& element : *value) {
    const auto size = to_size(element);
    if (!size) fail(file, name, "has " + json_excerpt(element) + " in its shape");
    shape.push_back(static_cast<int64_t>(*size));
  }
  return shape;
}

/// Bytes of a tensor of that type and shape, or nothing if they overflow.
std::optional<uint64_t> bytes_of(DType dtype, const std::vector<int64_t>& shape) {
  auto bytes = static_cast<uint64_t>(dtype_size(dtype));
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) return std::nullopt;
  }
  return bytes;
}

TensorInfo read_entry(const std::string& file, const std::string& name, const json& entry,
                      uint64_t data_begin, uint64_t data_bytes) {
  if (!entry.is_object()) fail(file, name, "is not described by an object");
  TensorInfo tensor;
  tensor.name = name;
  tensor.file = file;
  tensor.dtype = read_dtype(file, name, entry);
  tensor.shape = read_shape(file, name, entry);
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) {
    fail(file, name, "has no pair of data_offsets");
  }
  const auto begin = to_size((*offsets)[0]);
  const auto end = to_size((*offsets)[1]);
  if (!begin || !end || *begin > *end || *end > data_bytes) {
    fail(file, name,
         "has data_offsets " + json_excerpt(*offsets) + ", outside of the file's " +
             std::to_string(data_bytes) + " bytes of data");
  }
  const auto expected = bytes_of(tensor.dtype, tensor.shape);
  if (!expected || *expected != *end - *begin) {
    fail(file, name,
         "has " + std::to_string(*end - *begin) + " bytes, which is not " +
             std::string(dtype_name(tensor.dtype)) + " " + shape_text(tensor.shape));
  }
  tensor.begin_byte = data_begin + *begin;
  tensor.num_bytes = *end - *begin;
  return tensor;
}

/// The format demands that tensors cover the data section without overlap or gap.
void check_coverage(const std::string& file, std::vector<TensorInfo>& tensors, uint64_t data_begin,
                    uint64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    // An empty tensor shares its offset with the next one and comes first.
    return std::pair(a.begin_byte, a.num_bytes) < std::pair(b.begin_byte, b.num_bytes);
  });
  uint64_t position = data_begin;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.begin_byte < position) fail(file, tensor.name, "overlaps the tensor before it");
    if (tensor.begin_byte > position) fail(file, tensor.name, "leaves a gap before it");
    position += tensor.num_bytes;
  }
  if (position != data_begin + data_bytes) {
    throw Error(file,
                "has " + std::to_string(data_begin + data_bytes - position) + " bytes after the last tensor",
                "the file is damaged; fetch it again");
  }
}

}  // namespace

std::vector<TensorInfo> parse_safetensors_header(std::string_view json_text, const std::string& file,
                                                 uint64_t data_begin, uint64_t data_bytes) {
  if (!json_text.starts_with('{'))
    throw Error(file, "is not a safetensors file: its header is no JSON object", "");
  const json header = parse_json(json_text, file + ": header");
  std::vector<TensorInfo> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    tensors.push_back(read_entry(file, name, entry, data_begin, data_bytes));
  }
  check_coverage(file, tensors, data_begin, data_bytes);
  return tensors;
}

}  // namespace nemo
