// WeightSource: a read-only open checkpoint, whatever its file format. It knows names as they stand in the
// files, shapes and byte ranges, not models; lib/weights/checkpoint.h resolves a model's logical names on top
// of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/weights/file_reader.h"

namespace nemo {

/// Element types a checkpoint file may hold.
enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64
};

/// Bytes of one element.
int64_t dtype_size(DType dtype);

/// The spelling of safetensors: "BF16", "F8_E4M3", ...
std::string_view dtype_name(DType dtype);

/// The type of that spelling, or nothing.
std::optional<DType> find_dtype(std::string_view name);

/// One tensor of an open checkpoint. Elements are row-major and little-endian.
struct TensorInfo {
  std::string name;  ///< as it stands in the file
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  ///< empty = scalar
  std::string file;            ///< path of the file that holds it
  int32_t file_idx = 0;        ///< for the WeightSource that made this
  uint64_t begin_byte = 0;     ///< of the tensor's bytes within `file`
  uint64_t num_bytes = 0;

  int64_t num_elements() const;
};

/// "[128, 64]"; "[]" for a scalar.
std::string shape_text(std::span<const int64_t> shape);

/// Calls its second argument with every number below the first, each once, on whatever threads there are.
using RunPieces = std::function<void(int64_t, const std::function<void(int64_t)>&)>;

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// The tensor of that name, or nullptr. The pointer lives as long as the source.
  virtual const TensorInfo* find(std::string_view name) const = 0;

  /// All names, sorted.
  virtual std::vector<std::string> names() const = 0;

  /// Fills `out` with the tensor's bytes [begin_byte, begin_byte + out.size()), counted from the tensor's
  /// first byte. Safe to call from several threads at once. Throws Error naming tensor and file if the file
  /// has become shorter or cannot be read; a range outside of the tensor is a broken invariant.
  virtual void read(const TensorInfo& tensor, uint64_t begin_byte, std::span<std::byte> out) const = 0;

  /// Bytes of tensors read so far (headers not counted).
  virtual uint64_t bytes_read() const = 0;
};

/// Opens a Hugging Face folder: `model.safetensors.index.json` with its shards, or a single
/// `model.safetensors`. Reads and checks every header, no tensor. Throws Error naming file, tensor and
/// remedy; other formats are refused by name.
std::unique_ptr<WeightSource> open_checkpoint(const std::string& folder, Readers readers = Readers::kThisOne);

}  // namespace nemo
