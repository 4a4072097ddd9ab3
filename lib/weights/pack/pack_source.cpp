#include "lib/weights/pack/pack_source.h"

#include <cmath>

#include "kernels/error.h"
#include "lib/weights/pack/pack_form.h"

namespace nemo {
namespace {

constexpr const char* kPackAgain = "pack the checkpoint again";

kernels::DType dtype_of(const PackFile& file) {
  for (const kernels::DType dtype : {kernels::DType::kBFloat16, kernels::DType::kFloat32})
    if (file.about().dtype == dtype_form(dtype)) return dtype;
  throw Error(file.path(), "was made for the unknown dtype \"" + file.about().dtype + "\"", kPackAgain);
}

}  // namespace

PackSource::PackSource(const std::string& path, const ModelConfig& config, const RunPieces& run,
                       Readers readers)
    : file_(path, readers), run_(run), tied_embeddings_(config.tie_word_embeddings) {
  if (file_.about().layout != packed_layout())
    throw Error(path, "has matrices in the layout of another version of nemo-dist", kPackAgain);
  const kernels::DType dtype = dtype_of(file_);
  for (const TensorSpec& spec : pack_tensors(config)) add(spec, dtype);
  for (const TensorSpec& spec : kv_scale_tensors(config))
    if (file_.about().tensors.contains(spec.name)) add(spec, dtype);
}

void PackSource::fail(const TensorSpec& spec, const std::string& what) const {
  throw Error(file_.path() + ": tensor " + spec.name, what, kPackAgain);
}

void PackSource::add(const TensorSpec& spec, kernels::DType dtype) {
  const auto entry = file_.about().tensors.find(spec.name);
  if (entry == file_.about().tensors.end()) fail(spec, "is missing");
  const PackFile::Place& place = file_.place(spec.name);
  if (place.num_parts != static_cast<uint64_t>(spec.split == Split::kByExpert ? spec.shape[0] : 1))
    fail(spec,
         "has " + std::to_string(place.num_parts) + " parts, but config.json says " + shape_text(spec.shape));
  is_packed_matrix(spec) ? add_matrix(spec, entry->second, place, dtype)
                         : add_plain(spec, entry->second, place, dtype);
}

void PackSource::add_matrix(const TensorSpec& spec, const PackedTensor& tensor, const PackFile::Place& place,
                            kernels::DType dtype) {
  const auto format = find_packed_form(tensor.form);
  const size_t rank = spec.shape.size();
  const Matrix matrix{.format = format.value_or(kernels::WeightFormat::kFloat32),
                      .dtype = pack_dtype(spec, dtype),
                      .n = spec.shape[rank - 2],
                      .k = spec.shape[rank - 1],
                      .num_parts = static_cast<int64_t>(place.num_parts)};
  const bool is_expected =
      format && (kernels::is_quantized(*format) ? spec.keep == Keep::kJobDType
                                                : *format == kernels::weight_format(matrix.dtype));
  if (!is_expected) fail(spec, "is \"" + tensor.form + "\", which is not for it");
  if (*format == kernels::WeightFormat::kNvfp4 && matrix.k % kernels::kNvfp4Block != 0)
    fail(spec, "is NVFP4, but its columns are no multiple of 16");
  if (place.part_bytes !=
      static_cast<uint64_t>(kernels::PackedMatrix::packed_bytes(*format, matrix.n, matrix.k)))
    fail(spec, "has " + std::to_string(place.part_bytes) + " bytes, which is not " + shape_text(spec.shape));
  for (const float scale : tensor.scales)
    if (!std::isfinite(scale) || scale < 0) fail(spec, "has " + std::to_string(scale) + " for a scale");
  matrices_.emplace(spec.name, matrix);
}

void PackSource::add_plain(const TensorSpec& spec, const PackedTensor& tensor, const PackFile::Place& place,
                           kernels::DType dtype) {
  const kernels::DType kept = pack_dtype(spec, dtype);
  const auto num_bytes = static_cast<uint64_t>(spec.num_elements() * kernels::dtype_bytes(kept));
  if (tensor.form != dtype_form(kept) || place.part_bytes != num_bytes)
    fail(spec, "is " + std::to_string(place.part_bytes) + " bytes of \"" + tensor.form + "\", which is not " +
                   shape_text(spec.shape) + " of " + std::string(dtype_form(kept)));
  plain_.emplace(spec.name, TensorInfo{.name = spec.name,
                                       .dtype = kept == kernels::DType::kFloat32 ? DType::kF32 : DType::kBF16,
                                       .shape = spec.shape,
                                       .file = file_.path(),
                                       .begin_byte = place.begin_byte,
                                       .num_bytes = num_bytes});
}

const TensorInfo* PackSource::find(std::string_view name) const {
  const auto entry = plain_.find(name);
  return entry == plain_.end() ? nullptr : &entry->second;
}

std::vector<std::string> PackSource::names() const {
  std::vector<std::string> result;
  for (const auto& [name, tensor] : plain_) result.push_back(name);
  return result;
}

void PackSource::read(const TensorInfo& tensor, uint64_t begin_byte, std::span<std::byte> out) const {
  NEMO_CHECK(begin_byte == 0 && out.size() == tensor.num_bytes, tensor.name + " is read whole");
  read_part(tensor.name, 0, out, run_);
}

void PackSource::read_part(std::string_view name, uint64_t part, std::span<std::byte> out,
                           const RunPieces& run) const {
  file_.read_part(name, part, out, run);
  bytes_read_ += out.size();
}

kernels::PackedMatrix PackSource::read_matrix(std::string_view name, int64_t expert, kernels::DType dtype,
                                              const RunPieces& run) const {
  const std::string head = tensor_name(TensorRole::kLmHead, 0);
  if (tied_embeddings_ && name == tensor_name(TensorRole::kEmbedding, 0)) name = head;
  const auto entry = matrices_.find(name);
  NEMO_CHECK(entry != matrices_.end() && expert < entry->second.num_parts, std::string(name));
  const Matrix& matrix = entry->second;
  if (!kernels::is_quantized(matrix.format) && matrix.dtype != dtype)
    throw Error(file_.path(),
                "was made for model.dtype " + file_.about().dtype + ", not " + std::string(dtype_form(dtype)),
                "change model.dtype, or pack the checkpoint with --dtype " + std::string(dtype_form(dtype)),
                ErrorKind::kBadJob);
  const PackedTensor& tensor = file_.about().tensors.find(name)->second;
  kernels::PackedMatrix packed(matrix.format, matrix.n, matrix.k, tensor.scales[static_cast<size_t>(expert)]);
  read_part(name, static_cast<uint64_t>(expert), {packed.data(), static_cast<size_t>(packed.bytes())}, run);
  return packed;
}

}  // namespace nemo
