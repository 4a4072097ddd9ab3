// A pack as a source of weights. Internal to lib/weights.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops/matmul.h"
#include "lib/weights/pack/pack_file.h"
#include "lib/weights/tensor_names.h"
#include "lib/weights/weight_source.h"

namespace nemo {

class PackSource final : public WeightSource {
 public:
  /// Opens the pack and checks that it holds what `config` needs, in the layout of this build. Tensors other
  /// than matrices are read by `run`. Throws Error naming file and tensor.
  PackSource(const std::string& path, const ModelConfig& config, const RunPieces& run, Readers readers);

  // Vectors and the embedding, under logical names; all of a tensor at once, because its checksum is of all.
  const TensorInfo* find(std::string_view name) const override;
  std::vector<std::string> names() const override;
  void read(const TensorInfo& tensor, uint64_t begin_byte, std::span<std::byte> out) const override;
  uint64_t bytes_read() const override { return bytes_read_; }

  /// A matrix in kernel layout; of routed experts (the stacked name) that of `expert`, otherwise `expert` is
  /// 0. Of tied embeddings, the embedding's name is the head's. Throws Error if the pack was made for another
  /// `dtype`. Read piece by piece by `run`.
  kernels::PackedMatrix read_matrix(std::string_view name, int64_t expert, kernels::DType dtype,
                                    const RunPieces& run) const;

 private:
  struct Matrix {
    kernels::WeightFormat format{};
    kernels::DType dtype{};
    int64_t n = 0, k = 0;
    int64_t num_parts = 0;
  };

  void add(const TensorSpec& spec, kernels::DType dtype);
  void add_matrix(const TensorSpec& spec, const PackedTensor& tensor, const PackFile::Place& place,
                  kernels::DType dtype);
  void add_plain(const TensorSpec& spec, const PackedTensor& tensor, const PackFile::Place& place,
                 kernels::DType dtype);
  [[noreturn]] void fail(const TensorSpec& spec, const std::string& what) const;

  void read_part(std::string_view name, uint64_t part, std::span<std::byte> out, const RunPieces& run) const;

  PackFile file_;
  RunPieces run_;
  std::map<std::string, TensorInfo, std::less<>> plain_;
  std::map<std::string, Matrix, std::less<>> matrices_;
  bool tied_embeddings_ = false;
  mutable std::atomic<uint64_t> bytes_read_ = 0;
};

}  // namespace nemo
