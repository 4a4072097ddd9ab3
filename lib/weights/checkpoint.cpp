#include "lib/weights/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>

#include "kernels/error.h"
#include "lib/weights/checkpoint_checks.h"
#include "lib/weights/float_conversion.h"
#include "lib/weights/model_files.h"
#include "lib/weights/pack/pack_source.h"

namespace nemo {
namespace {

// What is held beside the result while element types are converted.
constexpr size_t kConvertBytes = 8ULL << 20;
// From here on all readers read together. What one of them asks for is smaller (matrix_loader.cpp).
constexpr size_t kLargeBytes = 128ULL << 20;

int64_t product(std::span<const int64_t> shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

struct ExpertName {
  std::string stacked;
  int64_t expert_id = 0;
};

/// "layers.1.mixer.experts.7.up_proj.weight" -> "layers.1.mixer.experts.up_proj" and 7.
std::optional<ExpertName> split_expert_name(std::string_view name) {
  constexpr std::string_view marker = ".mixer.experts.";
  constexpr std::string_view weight = ".weight";
  const size_t found = name.find(marker);
  if (found == std::string_view::npos || !name.ends_with(weight)) return std::nullopt;
  const size_t number_begin = found + marker.size();
  const size_t number_end = name.find('.', number_begin);
  const size_t weight_begin = name.size() - weight.size();
  if (number_end >= weight_begin) return std::nullopt;
  ExpertName result;
  const auto [end, code] =
      std::from_chars(name.data() + number_begin, name.data() + number_end, result.expert_id);
  if (code != std::errc() || end != name.data() + number_end || result.expert_id < 0) return std::nullopt;
  result.stacked = std::string(name.substr(0, number_begin)) +
                   std::string(name.substr(number_end + 1, weight_begin - number_end - 1));
  return result;
}

/// Reads `num_elements` from `begin_byte` on in pieces and hands each piece on.
template <typename Convert>
void read_in_pieces(const WeightSource& source, const TensorInfo& tensor, uint64_t begin_byte,
                    size_t num_elements, const Convert& convert) {
  const auto element_bytes = static_cast<size_t>(dtype_size(tensor.dtype));
  std::vector<std::byte> piece(std::min(kConvertBytes, num_elements * element_bytes));
  for (size_t done = 0; done < num_elements;) {
    const size_t count = std::min(num_elements - done, kConvertBytes / element_bytes);
    const std::span<std::byte> bytes(piece.data(), count * element_bytes);
    source.read(tensor, begin_byte + done * element_bytes, bytes);
    convert(std::span<const std::byte>(bytes), done);
    done += count;
  }
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& path, const ModelConfig& config, Readers readers) {
  if (is_pack(path)) return Checkpoint(path, config, readers);
  return Checkpoint(open_checkpoint(path, readers), config, path);
}

Checkpoint::Checkpoint(const std::string& pack, const ModelConfig& config, Readers readers)
    : where_(pack), tied_embeddings_(config.tie_word_embeddings) {
  const auto run = [&readers = *readers_](int64_t num_pieces, const std::function<void(int64_t)>& piece) {
    readers.run(num_pieces, piece);
  };
  auto source = std::make_unique<PackSource>(pack, config, run, readers);
  pack_ = source.get();
  source_ = std::move(source);
  by_logical_name_ = index_logical_names(*source_);
}

Checkpoint::Checkpoint(std::unique_ptr<WeightSource> source, const ModelConfig& config,
                       const std::string& where)
    : source_(std::move(source)), where_(where), tied_embeddings_(config.tie_word_embeddings) {
  by_logical_name_ = index_logical_names(*source_);
  check_checkpoint(by_logical_name_, config, where_);
}

Checkpoint::Slice Checkpoint::resolve(std::string_view name) const {
  if (tied_embeddings_ && name == tensor_name(TensorRole::kLmHead, 0)) {
    return resolve(tensor_name(TensorRole::kEmbedding, 0));
  }
  const auto entry = by_logical_name_.find(name);
  if (entry != by_logical_name_.end()) {
    Slice slice{entry->second, 0, entry->second->shape};
    if (nemo::stored_as(slice.tensor->dtype) == StoredAs::kNvfp4) slice.shape.back() *= 2;  // two a byte
    return slice;
  }
  if (const auto expert = split_expert_name(name)) {
    const auto stacked = by_logical_name_.find(expert->stacked);
    if (stacked != by_logical_name_.end()) {
      const TensorInfo& tensor = *stacked->second;
      NEMO_CHECK(expert->expert_id < tensor.shape[0], std::string(name));
      const uint64_t bytes = tensor.num_bytes / static_cast<uint64_t>(tensor.shape[0]);
      return {&tensor,
              bytes * static_cast<uint64_t>(expert->expert_id),
              {tensor.shape.begin() + 1, tensor.shape.end()}};
    }
  }
  throw Error(where_ + ": tensor " + std::string(name), "is not in the checkpoint", "");
}

Checkpoint::Slice Checkpoint::resolve_rows(std::string_view name, int64_t row_begin, int64_t row_end,
                                           size_t num_out) const {
  Slice slice = resolve(name);
  NEMO_CHECK(!slice.shape.empty(), std::string(name) + " is a scalar");
  NEMO_CHECK(0 <= row_begin && row_begin <= row_end && row_end <= slice.shape[0], std::string(name));
  const int64_t row_size = product(std::span(slice.shape).subspan(1));
  NEMO_CHECK(num_out == static_cast<size_t>((row_end - row_begin) * row_size), std::string(name));
  const int64_t elements_per_byte = nemo::stored_as(slice.tensor->dtype) == StoredAs::kNvfp4 ? 2 : 1;
  slice.begin_byte +=
      static_cast<uint64_t>(row_begin * row_size * dtype_size(slice.tensor->dtype) / elements_per_byte);
  return slice;
}

std::optional<kernels::PackedMatrix> Checkpoint::packed_matrix(std::string_view name, kernels::DType dtype,
                                                               const RunPieces& run) const {
  if (pack_ == nullptr) return std::nullopt;
  if (const auto expert = split_expert_name(name))
    return pack_->read_matrix(expert->stacked, expert->expert_id, dtype, run);
  return pack_->read_matrix(name, 0, dtype, run);
}

std::vector<int64_t> Checkpoint::shape(std::string_view name) const {
  return resolve(name).shape;
}

DType Checkpoint::dtype(std::string_view name) const {
  return resolve(name).tensor->dtype;
}

StoredAs Checkpoint::stored_as(std::string_view name) const {
  return nemo::stored_as(dtype(name));
}

float Checkpoint::read_scalar(const std::string& name) const {
  const Slice slice = resolve(name);
  float value = 0;
  source_->read(*slice.tensor, 0, std::as_writable_bytes(std::span(&value, 1)));
  if (std::isfinite(value) && value >= 0) return value;
  throw Error(slice.tensor->file + ": tensor " + slice.tensor->name,
              "is " + std::to_string(value) + ", which is no scale", "the file is damaged; fetch it again");
}

float Checkpoint::scale(std::string_view name) const {
  const StoredAs stored = stored_as(name);
  if (stored == StoredAs::kPlain) return 1.0f;
  return read_scalar(scale_tensor_name(weight_name(name),
                                       stored == StoredAs::kFp8 ? ScaleKind::kWeight : ScaleKind::kWeight2));
}

std::optional<float> Checkpoint::kv_scale(std::string_view name) const {
  const auto entry = by_logical_name_.find(name);
  if (entry == by_logical_name_.end()) return std::nullopt;
  const TensorInfo& tensor = *entry->second;
  const auto fail = [&](const std::string& what) {
    throw Error(tensor.file + ": tensor " + tensor.name, what,
                "fetch the file again, or take another export");
  };
  if (tensor.num_elements() != 1 || !is_plain_float(tensor.dtype))
    fail("is " + std::string(dtype_name(tensor.dtype)) + " " + shape_text(tensor.shape) +
         ", but the scale of a KV cache is one F32");
  std::vector<std::byte> bytes(static_cast<size_t>(dtype_size(tensor.dtype)));
  source_->read(tensor, 0, bytes);
  float scale = 0;
  widen_to_f32(tensor.dtype, bytes, {&scale, 1});
  if (!std::isfinite(scale) || scale <= 0)
    fail("is " + std::to_string(scale) + ", but the scale of a KV cache is finite and positive");
  return scale;
}

void Checkpoint::read_rows_codes(std::string_view name, int64_t row_begin, int64_t row_end,
                                 std::span<std::byte> out) const {
  const StoredAs stored = stored_as(name);
  NEMO_CHECK(stored != StoredAs::kPlain, std::string(name) + " is not quantized");
  const Slice slice =
      resolve_rows(name, row_begin, row_end, out.size() * (stored == StoredAs::kNvfp4 ? 2 : 1));
  source_->read(*slice.tensor, slice.begin_byte, out);
}

void Checkpoint::read_rows_block_scales(std::string_view name, int64_t row_begin, int64_t row_end,
                                        std::span<std::byte> out) const {
  const Slice slice =
      resolve_rows(scale_tensor_name(weight_name(name), ScaleKind::kWeight), row_begin, row_end, out.size());
  source_->read(*slice.tensor, slice.begin_byte, out);
}

void Checkpoint::dequantize_rows(std::string_view name, int64_t row_begin, int64_t row_end,
                                 std::span<float> out) const {
  const bool is_fp8 = stored_as(name) == StoredAs::kFp8;
  const float factor = scale(name);
  const auto columns = static_cast<size_t>(shape(name).at(1));
  const int64_t rows_at_once = std::max<int64_t>(1, static_cast<int64_t>(kConvertBytes / columns));
  std::vector<std::byte> codes, block_scales;
  for (int64_t row = row_begin; row < row_end; row += rows_at_once) {
    const int64_t end = std::min(row_end, row + rows_at_once);
    const size_t count = static_cast<size_t>(end - row) * columns;
    const auto part = out.subspan(static_cast<size_t>(row - row_begin) * columns, count);
    codes.resize(is_fp8 ? count : count / 2);
    read_rows_codes(name, row, end, codes);
    if (is_fp8) {
      dequantize_fp8(codes, factor, part);
      continue;
    }
    block_scales.resize(count / 16);
    read_rows_block_scales(name, row, end, block_scales);
    dequantize_nvfp4(codes, block_scales, factor, part);
  }
}

std::string Checkpoint::weight_name(std::string_view name) const {
  const bool is_tied_head = tied_embeddings_ && name == tensor_name(TensorRole::kLmHead, 0);
  return is_tied_head ? tensor_name(TensorRole::kEmbedding, 0) : std::string(name);
}

void Checkpoint::read_bytes(const Slice& slice, std::span<std::byte> out) const {
  // A pack lets all readers read by itself.
  if (pack_ != nullptr || out.size() < kLargeBytes)
    return source_->read(*slice.tensor, slice.begin_byte, out);
  const auto num_pieces = static_cast<int64_t>((out.size() + kConvertBytes - 1) / kConvertBytes);
  readers_->run(num_pieces, [&](int64_t i) {
    const size_t begin = static_cast<size_t>(i) * kConvertBytes;
    const auto piece = out.subspan(begin, std::min(kConvertBytes, out.size() - begin));
    source_->read(*slice.tensor, slice.begin_byte + begin, piece);
  });
}

std::vector<float> Checkpoint::read_f32(std::string_view name) const {
  const std::vector<int64_t> whole = shape(name);
  std::vector<float> result(static_cast<size_t>(product(whole)));
  read_rows_f32(name, 0, whole.at(0), result);
  return result;
}

std::vector<uint16_t> Checkpoint::read_bf16(std::string_view name) const {
  const std::vector<int64_t> whole = shape(name);
  std::vector<uint16_t> result(static_cast<size_t>(product(whole)));
  read_rows_bf16(name, 0, whole.at(0), result);
  return result;
}

void Checkpoint::read_rows_f32(std::string_view name, int64_t row_begin, int64_t row_end,
                               std::span<float> out) const {
  if (stored_as(name) != StoredAs::kPlain) return dequantize_rows(name, row_begin, row_end, out);
  const Slice slice = resolve_rows(name, row_begin, row_end, out.size());
  if (slice.tensor->dtype == DType::kF32) {
    return read_bytes(slice, std::as_writable_bytes(out));
  }
  read_in_pieces(*source_, *slice.tensor, slice.begin_byte, out.size(),
                 [&](std::span<const std::byte> bytes, size_t done) {
                   widen_to_f32(slice.tensor->dtype, bytes, out.subspan(done));
                 });
}

void Checkpoint::read_rows_bf16(std::string_view name, int64_t row_begin, int64_t row_end,
                                std::span<uint16_t> out) const {
  if (stored_as(name) != StoredAs::kPlain) {
    std::vector<float> rows(out.size());
    dequantize_rows(name, row_begin, row_end, rows);
    return round_to_bf16(DType::kF32, std::as_bytes(std::span(rows)), out);
  }
  const Slice slice = resolve_rows(name, row_begin, row_end, out.size());
  if (slice.tensor->dtype == DType::kBF16) {
    return read_bytes(slice, std::as_writable_bytes(out));
  }
  read_in_pieces(*source_, *slice.tensor, slice.begin_byte, out.size(),
                 [&](std::span<const std::byte> bytes, size_t done) {
                   round_to_bf16(slice.tensor->dtype, bytes, out.subspan(done));
                 });
}

}  // namespace nemo
