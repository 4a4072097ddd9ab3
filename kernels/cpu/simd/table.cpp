#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {

const RowKernels& row_kernels(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return kRowKernelsScalar;
    case Isa::kAvx2:
      return kRowKernelsAvx2;
    case Isa::kAvx512:
      return kRowKernelsAvx512;
    case Isa::kAvx512Bf16:
      return kRowKernelsAvx512Bf16;
    case Isa::kAmx:
      return kRowKernelsAmx;
  }
  return kRowKernelsScalar;
}

}  // namespace nemo::kernels
