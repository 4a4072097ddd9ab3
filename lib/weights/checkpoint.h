// Checkpoint: a model's weights by logical name (lib/weights/tensor_names.h), whatever the prefix, the
// spelling, the form of the experts (one tensor each or stacked) and the element type in the files. Reads
// only the bytes asked for, so that a rank reads only what it owns. Lives only while a model is loaded.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops/matmul.h"
#include "kernels/thread_pool.h"
#include "lib/config/model_config.h"
#include "lib/weights/tensor_names.h"
#include "lib/weights/weight_source.h"

namespace nemo {

class PackSource;

class Checkpoint {
 public:
  /// Opens `path`, a Hugging Face folder or a pack, and checks all names, shapes and element types against
  /// `config`. Reads headers only. Throws Error naming file and tensor for all that is missing, misshapen or
  /// unknown, and for what is quantized otherwise than announced.
  static Checkpoint open(const std::string& path, const ModelConfig& config,
                         Readers readers = Readers::kThisOne);

  /// The same over a source already open. `where` names it in errors.
  Checkpoint(std::unique_ptr<WeightSource> source, const ModelConfig& config, const std::string& where);

  /// Shape of a logical tensor, of NVFP4 in elements and not in bytes: all of it, or expert e's matrix for
  /// "layers.1.mixer.experts.7.up_proj.weight".
  std::vector<int64_t> shape(std::string_view name) const;

  /// Element type in the file; of lm_head with tied embeddings: the embedding's.
  DType dtype(std::string_view name) const;

  /// How a matrix is stored. Its own type decides, whatever is announced and whatever its siblings are.
  StoredAs stored_as(std::string_view name) const;

  /// The float scale of a quantized matrix; 1 of others. Throws Error unless it is finite and not negative.
  float scale(std::string_view name) const;

  /// One of kv_scale_tensors, or nothing if the checkpoint does not have it. Throws Error naming file and
  /// tensor unless it is one float, finite and positive.
  std::optional<float> kv_scale(std::string_view name) const;

  /// Rows of a quantized matrix as they are stored: FP8 a byte an element, NVFP4 a byte for two.
  void read_rows_codes(std::string_view name, int64_t row_begin, int64_t row_end,
                       std::span<std::byte> out) const;

  /// Rows of the e4m3 block scales [rows, columns / 16] of an NVFP4 matrix.
  void read_rows_block_scales(std::string_view name, int64_t row_begin, int64_t row_end,
                              std::span<std::byte> out) const;

  /// The whole tensor, widened exactly to float32; of a quantized one, multiplied by its scale.
  std::vector<float> read_f32(std::string_view name) const;

  /// The whole tensor as raw bfloat16 bits; float32 and float16 are rounded to the nearest, ties to even.
  std::vector<uint16_t> read_bf16(std::string_view name) const;

  /// Rows [row_begin, row_end) of a tensor, a row being all that follows dimension 0; `out` holds exactly
  /// (row_end - row_begin) * row_size elements. Widened exactly to float32; a quantized one multiplied by its
  /// scale, which is the one rounding.
  void read_rows_f32(std::string_view name, int64_t row_begin, int64_t row_end, std::span<float> out) const;

  /// The same as raw bfloat16 bits, rounded as in read_bf16.
  void read_rows_bf16(std::string_view name, int64_t row_begin, int64_t row_end,
                      std::span<uint16_t> out) const;

  /// The matrix `name` if this is a pack, which holds matrices in kernel layout and gives them in no other
  /// form; nothing otherwise. Read piece by piece by `run`. Throws Error if the pack was made for another
  /// `dtype`, and for damaged bytes.
  std::optional<kernels::PackedMatrix> packed_matrix(std::string_view name, kernels::DType dtype,
                                                     const RunPieces& run) const;

  /// Runs tasks on all readers. Threads that wait for the disk use no core, so there are more of them than
  /// one needs to copy and convert: some always wait, and the disk never does.
  void run_readers(int64_t num_tasks, const std::function<void(int64_t)>& task) const {
    readers_->run(num_tasks, task);
  }

  /// Bytes of tensors read so far.
  uint64_t bytes_read() const { return source_->bytes_read(); }

 private:
  /// Where a logical tensor lies: a byte range of one tensor of the source.
  struct Slice {
    const TensorInfo* tensor = nullptr;
    uint64_t begin_byte = 0;
    std::vector<int64_t> shape;
  };

  Slice resolve(std::string_view name) const;
  /// `name`, of a tied head the embedding's: where the scales lie.
  std::string weight_name(std::string_view name) const;
  float read_scalar(const std::string& name) const;
  void read_bytes(const Slice& slice, std::span<std::byte> out) const;
  void dequantize_rows(std::string_view name, int64_t row_begin, int64_t row_end, std::span<float> out) const;
  Slice resolve_rows(std::string_view name, int64_t row_begin, int64_t row_end, size_t num_out) const;

  /// Of a pack.
  Checkpoint(const std::string& pack, const ModelConfig& config, Readers readers);

  std::unique_ptr<kernels::ThreadPool> readers_ = std::make_unique<kernels::ThreadPool>(4);
  std::unique_ptr<WeightSource> source_;
  const PackSource* pack_ = nullptr;  ///< source_, if it is one
  std::string where_;
  bool tied_embeddings_ = false;
  std::map<std::string, const TensorInfo*, std::less<>> by_logical_name_;
};

}  // namespace nemo
