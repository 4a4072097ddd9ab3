// The kernels under measurement: what each call must read and compute at the least.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/context.h"

namespace nemo::bench {

struct Case {
  std::string name;
  double bytes = 0;          ///< that must come from memory
  double bf16_flops = 0;     ///< that the dot-product unit could do
  double float32_flops = 0;  ///< that must be done in float32
  std::function<void(const kernels::Context&)> run;
};

/// Shapes of Nemotron 3 Super. Each case owns its operands.
std::vector<Case> all_cases();
/// The part of them that are matrix products.
std::vector<Case> matmul_cases();
/// Tiles of such products, from the caches.
std::vector<Case> tile_cases();
/// Bytes are those of the packed matrix, which is written; rows are read from the caches.
std::vector<Case> packing_cases();
/// The matrix products by oneDNN; none where it was not found.
std::vector<Case> onednn_cases();
bool has_onednn();

}  // namespace nemo::bench
