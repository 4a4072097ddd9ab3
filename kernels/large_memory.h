// LargeMemory: an owner of memory for weights and for sequences' states, which live as long as a model and
// are read from end to end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace nemo::kernels {

class LargeMemory {
 public:
  LargeMemory() = default;
  /// Reads as zero; begins at a multiple of 64 bytes, large memory on huge pages where the system has them. A
  /// page is cleared when it is first touched, on the thread that fills it, and takes no memory before.
  /// Throws std::bad_alloc.
  explicit LargeMemory(int64_t num_bytes);

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  int64_t num_bytes() const { return num_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* pointer) const;
  };
  int64_t num_bytes_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

}  // namespace nemo::kernels
