// Writes safetensors files for tests: right ones, and wrong ones by giving the header's text.
#pragma once

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/weights/weight_source.h"

namespace nemo {

/// A file of `header_text` and `num_data_bytes` bytes 0, 1, 2, ... after it.
inline std::string raw_safetensors(const std::string& header_text, size_t num_data_bytes) {
  std::string text;
  for (size_t i = 0; i < 8; ++i) text += static_cast<char>(header_text.size() >> (8 * i));
  text += header_text;
  for (size_t i = 0; i < num_data_bytes; ++i) text += static_cast<char>(i);
  return text;
}

/// Collects tensors and writes them as one file.
class SafetensorsWriter {
 public:
  void add_bytes(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
                 const std::string& bytes) {
    header_[name] = {{"dtype", std::string(dtype_name(dtype))},
                     {"shape", shape},
                     {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
  }

  template <typename T>
  void add(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
           const std::vector<T>& values) {
    std::string bytes(values.size() * sizeof(T), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    add_bytes(name, dtype, shape, bytes);
  }

  /// All zero.
  void add_zeros(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
    int64_t bytes = dtype_size(dtype);
    for (const int64_t size : shape) bytes *= size;
    add_bytes(name, dtype, shape, std::string(static_cast<size_t>(bytes), '\0'));
  }

  std::string text() const {
    const std::string header = header_.dump();
    return raw_safetensors(header, 0) + data_;
  }

  void write(const std::string& path) const { std::ofstream(path, std::ios::binary) << text(); }

 private:
  nlohmann::json header_ = {{"__metadata__", {{"format", "pt"}}}};
  std::string data_;
};

}  // namespace nemo
