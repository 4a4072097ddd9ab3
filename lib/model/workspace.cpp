#include "lib/model/workspace.h"

#include <algorithm>

namespace nemo {

namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kSmallestBlock = size_t{4} << 20;

size_t round_up(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
}  // namespace

std::byte* Workspace::take(size_t bytes) {
  bytes = round_up(std::max<size_t>(bytes, 1));
  while (block_idx_ < blocks_.size() && used_ + bytes > blocks_[block_idx_].size) {
    ++block_idx_;
    used_ = 0;
  }
  if (block_idx_ == blocks_.size()) {
    const size_t size = std::max(bytes, kSmallestBlock);
    blocks_.push_back({std::make_unique_for_overwrite<std::byte[]>(size + kAlignment), size});
  }
  const auto base = reinterpret_cast<uintptr_t>(blocks_[block_idx_].data.get());
  std::byte* const aligned = blocks_[block_idx_].data.get() + (round_up(base) - base);
  std::byte* const result = aligned + used_;
  used_ += bytes;
  return result;
}

}  // namespace nemo
