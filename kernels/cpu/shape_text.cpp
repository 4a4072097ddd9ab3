#include "kernels/cpu/shape_text.h"

namespace nemo::kernels {

std::string shape_text(int64_t rows, int64_t cols) {
  std::string text = "[";
  text.append(std::to_string(rows)).append(", ").append(std::to_string(cols)).append("]");
  return text;
}

}  // namespace nemo::kernels
