#include "dist/moe/dispatch_message.h"

#include <cstring>

#include "kernels/error.h"

namespace nemo::dist {

namespace {

template <class T>
void put(std::string& bytes, std::span<const T> values) {
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

template <class T>
std::span<const T> take(const char*& from, int64_t count) {
  const std::span<const T> values(reinterpret_cast<const T*>(from), static_cast<size_t>(count));
  from += values.size_bytes();
  return values;
}

}  // namespace

void DispatchWriter::add(int32_t row, std::span<const int32_t> expert_ids, std::span<const float> weights) {
  rows_.push_back(row);
  pairs_.push_back(static_cast<int32_t>(expert_ids.size()));
  expert_ids_.insert(expert_ids_.end(), expert_ids.begin(), expert_ids.end());
  weights_.insert(weights_.end(), weights.begin(), weights.end());
}

std::string DispatchWriter::finish(kernels::TensorView<const std::byte> x) const {
  const int32_t counts[2] = {static_cast<int32_t>(rows_.size()), static_cast<int32_t>(weights_.size())};
  std::string bytes;
  bytes.reserve(sizeof(counts) + 4 * (rows_.size() + 2 * weights_.size()) +
                rows_.size() * static_cast<size_t>(x.cols));
  put<int32_t>(bytes, counts);
  put<int32_t>(bytes, pairs_);
  put<int32_t>(bytes, expert_ids_);
  put<float>(bytes, weights_);
  for (const int32_t row : rows_) put<std::byte>(bytes, {x.row(row), static_cast<size_t>(x.cols)});
  return bytes;
}

DispatchReader::DispatchReader(std::string_view bytes, int64_t row_width, kernels::DType wire) {
  int32_t counts[2] = {0, 0};
  if (bytes.size() >= sizeof(counts)) std::memcpy(counts, bytes.data(), sizeof(counts));
  const int64_t num_rows = counts[0], num_pairs = counts[1];
  const int64_t expected = int64_t{sizeof(counts)} + 4 * (num_rows + 2 * num_pairs) +
                           num_rows * row_width * kernels::dtype_bytes(wire);
  if (num_rows < 0 || num_pairs < 0 || expected != static_cast<int64_t>(bytes.size()))
    throw Error("dispatch message",
                std::to_string(bytes.size()) + " bytes where " + std::to_string(expected) + " were announced",
                "all ranks must run the same build of nemo-dist");
  const char* from = bytes.data() + sizeof(counts);
  pairs_ = take<int32_t>(from, num_rows);
  expert_ids_ = take<int32_t>(from, num_pairs);
  weights_ = take<float>(from, num_pairs);
  rows_ = bytes.substr(static_cast<size_t>(from - bytes.data()));
  check_pairs();
}

void DispatchReader::check_pairs() const {
  int64_t sum = 0;
  for (const int32_t count : pairs_) {
    if (count < 0) throw Error("dispatch message", "a row with " + std::to_string(count) + " experts", "");
    sum += count;
  }
  if (sum != static_cast<int64_t>(weights_.size())) {
    throw Error("dispatch message",
                std::to_string(weights_.size()) + " pairs where its rows have " + std::to_string(sum),
                "all ranks must run the same build of nemo-dist");
  }
}

}  // namespace nemo::dist
