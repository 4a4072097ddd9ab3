// Shapes in words, for the messages of failed checks.
#pragma once

#include <string>

#include "kernels/types.h"

namespace nemo::kernels {

/// "[rows, cols]"
std::string shape_text(int64_t rows, int64_t cols);

template <class T>
std::string shape_text(TensorView<T> view) {
  return shape_text(view.rows, view.cols);
}

}  // namespace nemo::kernels
