// Makes a pack of a checkpoint, on one rank or many.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/types.h"
#include "lib/config/model_config.h"
#include "lib/output/files.h"
#include "lib/weights/checkpoint.h"
#include "lib/weights/tensor_names.h"

namespace nemo {

class Hdf5File;

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

/// A pack in the making. One rank lays the file out, which gives every tensor its place; then any number of
/// them write a share each, at the same time; then the first one finishes it. The bytes do not depend on
/// their number. Until then it has another name, and goes with the writer that laid it out.
class PackWriter {
 public:
  /// Opens the checkpoint, writes nothing. Throws Error naming file and tensor for a checkpoint that could
  /// not be run, and for an `out_path` that is there.
  explicit PackWriter(const PackOptions& options);
  ~PackWriter();
  PackWriter(const PackWriter&) = delete;
  PackWriter& operator=(const PackWriter&) = delete;

  PackSummary summary() const;

  /// Makes the file and returns the tensors' places in it, which all ranks need. Throws Error for a disk that
  /// is too small.
  std::vector<uint64_t> lay_out();

  /// Packs and writes one share of the bytes, and has them safe on disk. Holds one matrix at a time, at the
  /// most the larger of embedding and lm_head. Returns what finish asks for.
  std::string write_share(std::span<const uint64_t> places, int share, int num_shares) const;

  /// For the rank that laid out the file, when all shares are written: adds checksums and scales, and gives
  /// the file its name. `written`: what write_share returned, in the order of shares.
  void finish(std::string_view written);

 private:
  struct Tensor {
    TensorSpec spec;
    std::string form;
    int64_t num_parts = 1;
    uint64_t part_bytes = 0;
  };
  /// Of each part, in the file's order, what finish writes. Ranks are alike: it travels as it lies in memory.
  struct WrittenPart {
    uint64_t checksum = 0;
    float scale = 1;
    uint32_t unused = 0;
  };

  Tensor plan_tensor(const TensorSpec& spec) const;
  std::string partial_path() const;
  WrittenPart write_part(const FileDescriptor& file, const Tensor& tensor, int64_t part,
                         uint64_t place) const;

  PackOptions options_;
  ModelConfig config_;
  Checkpoint checkpoint_;
  std::vector<Tensor> tensors_;
  std::unique_ptr<Hdf5File> file_;  ///< of the rank that laid it out, until it is finished
};

/// All of it on one rank.
PackSummary write_pack(const PackOptions& options);

}  // namespace nemo
