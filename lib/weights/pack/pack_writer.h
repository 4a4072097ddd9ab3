// Makes a pack of a checkpoint.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/types.h"

namespace nemo {

struct PackOptions {
  std::string model_path;  ///< a Hugging Face folder
  std::string out_path;    ///< the pack, a file that is not there yet
  kernels::DType dtype =
      kernels::DType::kBFloat16;  ///< what unquantized matrices are kept as: model.dtype of jobs
};

struct PackSummary {
  int64_t num_tensors = 0;
  uint64_t num_bytes = 0;  ///< of all tensors
};

/// Writes the pack, which appears under its name when whole. Holds one matrix at a time, at the most the
/// larger of embedding and lm_head. Throws Error naming file and tensor for a checkpoint that could not be
/// run, an `out_path` that is there, and a disk that is too small, the latter before anything is written.
PackSummary write_pack(const PackOptions& options);

}  // namespace nemo
