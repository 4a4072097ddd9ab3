// Context: what every op needs besides its operands. Made once a rank, passed by const reference.
#pragma once

#include <string_view>

#include "kernels/thread_pool.h"
#include "kernels/types.h"

namespace nemo::kernels {

/// Instruction sets we have kernels for, in rising order. Bits are promised within one of them, closeness
/// across.
enum class Isa : uint8_t { kScalar, kAvx2, kAvx512, kAvx512Bf16, kAmx };

/// The best one of this machine; the environment variable NEMO_ISA (scalar, avx2, avx512, avx512bf16, amx)
/// lowers it, and throws Error when it names something unknown or absent.
Isa detect_isa();
std::string_view isa_name(Isa isa);

struct Context {
  ThreadPool& threads;
  Isa isa;
  DType dtype;  ///< what activations are rounded to where they are stored or sent
};

}  // namespace nemo::kernels
