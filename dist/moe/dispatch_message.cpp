#include "dist/moe/dispatch_message.h"

#include <cstring>

#include "kernels/error.h"

namespace nemo::dist {

namespace {

template <class T>
char* put(char* to, const std::vector<T>& values) {
  const size_t bytes = values.size() * sizeof(T);
  if (bytes > 0) std::memcpy(to, values.data(), bytes);
  return to + bytes;
}

void put_row(char* to, const float* row, int64_t width, kernels::DType wire) {
  if (wire == kernels::DType::kFloat32) {
    std::memcpy(to, row, static_cast<size_t>(width) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < width; ++i) {
    const kernels::bf16 value = kernels::bf16::from_float(row[i]);
    std::memcpy(to + i * 2, &value, sizeof(value));
  }
}

}  // namespace

void DispatchWriter::add(int32_t row, std::span<const int32_t> expert_ids, std::span<const float> weights) {
  rows_.push_back(row);
  pairs_.push_back(static_cast<int32_t>(expert_ids.size()));
  expert_ids_.insert(expert_ids_.end(), expert_ids.begin(), expert_ids.end());
  weights_.insert(weights_.end(), weights.begin(), weights.end());
}

std::string DispatchWriter::finish(kernels::TensorView<const float> x, kernels::DType wire) const {
  const auto row_bytes = static_cast<size_t>(x.cols * kernels::dtype_bytes(wire));
  const std::vector<int32_t> counts = {static_cast<int32_t>(rows_.size()),
                                       static_cast<int32_t>(weights_.size())};
  std::string bytes(4 * (counts.size() + rows_.size() + 2 * weights_.size()) + rows_.size() * row_bytes,
                    '\0');
  char* to = put(put(put(put(bytes.data(), counts), pairs_), expert_ids_), weights_);
  for (size_t i = 0; i < rows_.size(); ++i) put_row(to + i * row_bytes, x.row(rows_[i]), x.cols, wire);
  return bytes;
}

DispatchReader::DispatchReader(std::string_view bytes, int64_t row_width, kernels::DType wire)
    : row_width_(row_width), wire_(wire) {
  int32_t counts[2] = {0, 0};
  if (bytes.size() >= sizeof(counts)) std::memcpy(counts, bytes.data(), sizeof(counts));
  num_rows = counts[0];
  num_pairs = counts[1];
  const int64_t expected = int64_t{sizeof(counts)} + 4 * (num_rows + 2 * num_pairs) +
                           num_rows * row_width * kernels::dtype_bytes(wire);
  if (num_rows < 0 || num_pairs < 0 || expected != static_cast<int64_t>(bytes.size()))
    throw Error("dispatch message",
                std::to_string(bytes.size()) + " bytes where " + std::to_string(expected) + " were announced",
                "all ranks must run the same build of nemo-dist");
  pairs = bytes.data() + sizeof(counts);
  expert_ids = pairs + 4 * num_rows;
  weights = expert_ids + 4 * num_pairs;
  row_bytes_ = weights + 4 * num_pairs;
  check_pairs();
}

void DispatchReader::check_pairs() const {
  int64_t sum = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    int32_t count = 0;
    std::memcpy(&count, pairs + 4 * row, sizeof(count));
    if (count < 0) throw Error("dispatch message", "a row with " + std::to_string(count) + " experts", "");
    sum += count;
  }
  if (sum != num_pairs) {
    throw Error("dispatch message",
                std::to_string(num_pairs) + " pairs where its rows have " + std::to_string(sum),
                "all ranks must run the same build of nemo-dist");
  }
}

void DispatchReader::read_row(int64_t row, float* out) const {
  const char* from = row_bytes_ + row * row_width_ * kernels::dtype_bytes(wire_);
  if (wire_ == kernels::DType::kFloat32) {
    std::memcpy(out, from, static_cast<size_t>(row_width_) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < row_width_; ++i) {
    kernels::bf16 value;
    std::memcpy(&value, from + i * 2, sizeof(value));
    out[i] = value.to_float();
  }
}

}  // namespace nemo::dist
