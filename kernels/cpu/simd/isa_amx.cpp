// Compiled with this instruction set's flags: see kernels/CMakeLists.txt.
#include "kernels/cpu/simd/all_rows.h"

namespace nemo::kernels {

constinit const RowKernels kRowKernelsAmx = all_rows();

}  // namespace nemo::kernels
