// Matrices of a checkpoint in kernel layout.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kernels/ops/matmul.h"
#include "lib/weights/checkpoint.h"

namespace nemo {

/// The matrix `name`, [n, k]; of routed experts one expert's. A quantized one stays as it is stored, another
/// one is kept as `dtype`. Holds a few MiB besides the result. Throws Error naming tensor and file.
kernels::PackedMatrix load_matrix(const Checkpoint& checkpoint, const std::string& name,
                                  kernels::DType dtype);

/// The same of many at once, in their order: several are read side by side, so that the disk need not wait
/// for the last piece of one before the first of another.
std::vector<kernels::PackedMatrix> load_matrices(const Checkpoint& checkpoint,
                                                 std::span<const std::string> names, kernels::DType dtype);

}  // namespace nemo
