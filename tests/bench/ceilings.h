// What this machine can do at most: the floors that kernels are measured against.
#pragma once

#include "kernels/context.h"

namespace nemo::bench {

struct Ceilings {
  double read_bytes_per_s = 0;      ///< from memory, the best of several access patterns
  double float32_flops_per_s = 0;   ///< multiply and add count as two
  double bfloat16_flops_per_s = 0;  ///< of the dot-product instruction; float32's where the machine has none
};

/// Measures with all threads of `threads`. Takes about a second.
Ceilings measure_ceilings(kernels::ThreadPool& threads, kernels::Isa isa);

}  // namespace nemo::bench
