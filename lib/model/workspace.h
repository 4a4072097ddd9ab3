// Workspace: the scratch memory of a step. Grows to what the largest step needs and is then reused; a Frame
// gives back everything taken since it was opened. One per rank; not for concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/types.h"

namespace nemo {

class Workspace {
 public:
  /// Uninitialized [rows, cols], valid until the enclosing Frame ends.
  template <class T>
  kernels::TensorView<T> tensor(int64_t rows, int64_t cols) {
    return {reinterpret_cast<T*>(take(static_cast<size_t>(rows * cols) * sizeof(T))), rows, cols};
  }
  template <class T>
  std::span<T> array(int64_t count) {
    return {reinterpret_cast<T*>(take(static_cast<size_t>(count) * sizeof(T))), static_cast<size_t>(count)};
  }

  /// Marks a point; its end frees all that was taken after it. Frames nest.
  class Frame {
   public:
    explicit Frame(Workspace& workspace)
        : workspace_(workspace), block_idx_(workspace.block_idx_), used_(workspace.used_) {}
    ~Frame() {
      workspace_.block_idx_ = block_idx_;
      workspace_.used_ = used_;
    }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Workspace& workspace_;
    size_t block_idx_, used_;
  };

 private:
  /// Blocks never move, so that views stay valid while the workspace grows.
  struct Block {
    std::unique_ptr<std::byte[]> data;
    size_t size = 0;
  };
  std::byte* take(size_t bytes);

  std::vector<Block> blocks_;
  size_t block_idx_ = 0;  ///< the block being filled
  size_t used_ = 0;       ///< bytes of it in use
};

}  // namespace nemo
