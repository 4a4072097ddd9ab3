// Memory an op needs while it runs. Kept by each thread between calls: a step makes hundreds of them.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace nemo::kernels {

/// An aligned buffer that only grows; its content is not kept when it does.
class Scratch {
 public:
  template <class T>
  T* get(int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    if (bytes > bytes_) {
      bytes_ = (bytes + kAlignment - 1) / kAlignment * kAlignment;
      data_.reset();  // first, so that old and new are never held together
      data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, static_cast<size_t>(bytes_))));
      if (!data_) {
        bytes_ = 0;
        throw std::bad_alloc();
      }
    }
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  static constexpr int64_t kAlignment = 64;
  struct Free {
    void operator()(std::byte* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<std::byte[], Free> data_;
  int64_t bytes_ = 0;
};

}  // namespace nemo::kernels
