// Matrices of a checkpoint in kernel layout.
#pragma once

#include <string>

#include "kernels/ops/matmul.h"
#include "lib/weights/checkpoint.h"

namespace nemo {

/// The matrix `name`, [n, k]; of routed experts one expert's. A quantized one stays as it is stored, another
/// one is kept as `dtype`. Holds a few MiB besides the result. Throws Error naming tensor and file.
kernels::PackedMatrix load_matrix(const Checkpoint& checkpoint, const std::string& name,
                                  kernels::DType dtype);

}  // namespace nemo
