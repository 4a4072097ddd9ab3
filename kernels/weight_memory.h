// WeightMemory: an owner of memory for weights, which are filled once and read for as long as a model lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace nemo::kernels {

class WeightMemory {
 public:
  WeightMemory() = default;
  /// Reads as zero; begins at a multiple of 64 bytes, large memory on huge pages where the system has them. A
  /// page is cleared when it is first touched, on the thread that fills it. Throws std::bad_alloc.
  explicit WeightMemory(int64_t num_bytes);

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
