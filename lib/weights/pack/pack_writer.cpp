#include "lib/weights/pack/pack_writer.h"

#include <fcntl.h>
#include <hdf5.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "kernels/error.h"
#include "lib/output/hdf5_file.h"
#include "lib/weights/checkpoint_fingerprint.h"
#include "lib/weights/matrix_loader.h"
#include "lib/weights/model_files.h"
#include "lib/weights/pack/pack_file.h"
#include "lib/weights/pack/pack_form.h"

namespace nemo {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxFileBytes = 512ULL << 20;
constexpr const char* kCannotWrite = "cannot write";

/// One data set of bytes, [parts, bytes of a part], whose place in the file is fixed at once, so that anybody
/// may write it.
Hdf5Handle create_bytes(const Hdf5File& file, const std::string& name, uint64_t num_parts,
                        uint64_t part_bytes) {
  const hsize_t size[2] = {num_parts, part_bytes};
  const Hdf5Handle space(file.check(H5Screate_simple(2, size, nullptr), kCannotWrite), H5Sclose);
  const Hdf5Handle creation(file.check(H5Pcreate(H5P_DATASET_CREATE), kCannotWrite), H5Pclose);
  file.check(H5Pset_layout(creation.get(), H5D_CONTIGUOUS), kCannotWrite);
  file.check(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), kCannotWrite);
  file.check(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), kCannotWrite);  // all is written once
  file.check(H5Pset_obj_track_times(creation.get(), false), kCannotWrite);
  return {file.check(H5Dcreate2(file.id(), name.c_str(), H5T_STD_U8LE, space.get(), H5P_DEFAULT,
                                creation.get(), H5P_DEFAULT),
                     kCannotWrite),
          H5Dclose};
}

/// Without the time of its making, which a group has that HDF5 makes by itself: same checkpoint, same bytes.
void create_group(const Hdf5File& file, const char* name) {
  const Hdf5Handle creation(file.check(H5Pcreate(H5P_GROUP_CREATE), kCannotWrite), H5Pclose);
  file.check(H5Pset_obj_track_times(creation.get(), false), kCannotWrite);
  const Hdf5Handle group(
      file.check(H5Gcreate2(file.id(), name, H5P_DEFAULT, creation.get(), H5P_DEFAULT), kCannotWrite),
      H5Gclose);
}

void write_at(const FileDescriptor& file, uint64_t offset, std::span<const std::byte> bytes,
              const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_file_error(path, kCannotWrite, errno);
    offset += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

/// Where a tensor's values come from.
std::string source_name(const TensorSpec& spec, int64_t part, const ModelConfig& config) {
  if (spec.split == Split::kByExpert) return expert_tensor_name(spec.name, part);
  const bool is_tied_head = spec.role == TensorRole::kLmHead && config.tie_word_embeddings;
  return is_tied_head ? tensor_name(TensorRole::kEmbedding, 0) : spec.name;
}

/// config.json and whatever else a job reads besides weights.
std::map<std::string, std::string> read_small_files(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const std::string& name : model_file_names(folder))
    files[name] = *find_model_file(folder, name, kMaxFileBytes);
  return files;
}

ModelConfig load_config(const PackOptions& options) {
  if (is_pack(options.model_path))
    throw Error(options.model_path, "is a pack already", "--model is a Hugging Face folder",
                ErrorKind::kBadJob);
  if (fs::exists(options.out_path))
    throw Error(options.out_path, "is there already", "give another --out, or remove it first",
                ErrorKind::kBadJob);
  return load_model_config(options.model_path);
}

void check_room(const std::string& path, uint64_t needed) {
  std::error_code unknown;
  const uint64_t free = fs::space(fs::absolute(path).parent_path(), unknown).available;
  if (unknown || needed <= free) return;  // a folder that is not there is found out when the file is made
  throw Error(
      path, "takes " + std::to_string(needed) + " bytes, but the disk has " + std::to_string(free) + " left",
      "choose another disk");
}

PackAbout describe(const PackOptions& options) {
  return {.dtype = std::string(dtype_form(options.dtype)),
          .layout = packed_layout(),
          .checkpoint = fingerprint_checkpoint(options.model_path),
          .tokenizer = fingerprint_tokenizer(options.model_path),
          .files = read_small_files(options.model_path)};
}

}  // namespace

PackWriter::PackWriter(const PackOptions& options)
    : options_(options),
      config_(load_config(options)),
      checkpoint_(Checkpoint::open(options.model_path, config_)) {
  for (const TensorSpec& spec : pack_tensors(config_)) tensors_.push_back(plan_tensor(spec));
  for (const TensorSpec& spec : kv_scale_tensors(config_))
    if (checkpoint_.kv_scale(spec.name)) tensors_.push_back(plan_tensor(spec));
}

PackWriter::~PackWriter() {
  if (file_ == nullptr) return;
  const Hdf5Quiet quiet;
  file_.reset();
  std::error_code ignored;
  fs::remove(partial_path(), ignored);
}

PackWriter::Tensor PackWriter::plan_tensor(const TensorSpec& spec) const {
  const kernels::DType kept = pack_dtype(spec, options_.dtype);
  Tensor tensor{.spec = spec, .form = std::string(dtype_form(kept))};
  if (!is_packed_matrix(spec)) {
    tensor.part_bytes = static_cast<uint64_t>(spec.num_elements() * kernels::dtype_bytes(kept));
    return tensor;
  }
  if (spec.split == Split::kByExpert) tensor.num_parts = spec.shape[0];
  const StoredAs stored = checkpoint_.stored_as(source_name(spec, 0, config_));
  const kernels::WeightFormat format = stored == StoredAs::kFp8     ? kernels::WeightFormat::kFp8
                                       : stored == StoredAs::kNvfp4 ? kernels::WeightFormat::kNvfp4
                                                                    : kernels::weight_format(kept);
  const size_t rank = spec.shape.size();
  tensor.form = packed_form(format);
  tensor.part_bytes = static_cast<uint64_t>(
      kernels::PackedMatrix::packed_bytes(format, spec.shape[rank - 2], spec.shape[rank - 1]));
  return tensor;
}

PackSummary PackWriter::summary() const {
  PackSummary summary{.num_tensors = static_cast<int64_t>(tensors_.size())};
  for (const Tensor& tensor : tensors_)
    summary.num_bytes += static_cast<uint64_t>(tensor.num_parts) * tensor.part_bytes;
  return summary;
}

std::string PackWriter::partial_path() const {
  return AtomicFile::partial_path(options_.out_path);
}

std::vector<uint64_t> PackWriter::lay_out() {
  check_room(options_.out_path, summary().num_bytes);
  const Hdf5Quiet quiet;
  file_ = std::make_unique<Hdf5File>(partial_path(), Hdf5Structures::kChecksummed);
  create_group(*file_, "/tensors");
  std::vector<uint64_t> places;
  for (const Tensor& tensor : tensors_) {
    const Hdf5Handle dataset = create_bytes(*file_, "/tensors/" + tensor.spec.name,
                                            static_cast<uint64_t>(tensor.num_parts), tensor.part_bytes);
    const haddr_t place = H5Dget_offset(dataset.get());
    NEMO_CHECK(place != HADDR_UNDEF, tensor.spec.name);
    places.push_back(place);
  }
  file_->check(H5Fflush(file_->id(), H5F_SCOPE_GLOBAL), kCannotWrite);
  return places;
}

PackWriter::WrittenPart PackWriter::write_part(const FileDescriptor& file, const Tensor& tensor, int64_t part,
                                               uint64_t place) const {
  const kernels::DType kept = pack_dtype(tensor.spec, options_.dtype);
  const std::string& name = tensor.spec.name;
  const auto write = [&](std::span<const std::byte> bytes, float scale) -> WrittenPart {
    NEMO_CHECK(bytes.size() == tensor.part_bytes, name);
    write_at(file, place + static_cast<uint64_t>(part) * tensor.part_bytes, bytes, partial_path());
    return {part_checksum(name, bytes), scale};
  };
  if (is_packed_matrix(tensor.spec)) {
    const auto matrix = load_matrix(checkpoint_, source_name(tensor.spec, part, config_), kept);
    return write({matrix.data(), static_cast<size_t>(matrix.bytes())}, matrix.scale());
  }
  if (tensor.spec.shape.empty()) {  // only the scales of keys and values are such
    const float kv_scale = checkpoint_.kv_scale(name).value();
    return write(std::as_bytes(std::span(&kv_scale, 1)), 1.0f);
  }
  if (kept == kernels::DType::kFloat32)
    return write(std::as_bytes(std::span<const float>(checkpoint_.read_f32(name))), 1.0f);
  return write(std::as_bytes(std::span<const uint16_t>(checkpoint_.read_bf16(name))), 1.0f);
}

std::string PackWriter::write_share(std::span<const uint64_t> places, int share, int num_shares) const {
  const FileDescriptor file = open_file(partial_path(), O_WRONLY);
  const double total = static_cast<double>(summary().num_bytes);
  std::string written;
  uint64_t begin = 0;
  for (size_t i = 0; i < tensors_.size(); ++i)
    for (int64_t part = 0; part < tensors_[i].num_parts; ++part, begin += tensors_[i].part_bytes) {
      // Whoever has the byte in its middle writes a part.
      const double middle = static_cast<double>(begin) + static_cast<double>(tensors_[i].part_bytes) / 2;
      if (static_cast<int>(middle / total * num_shares) != share) continue;
      const WrittenPart mine = write_part(file, tensors_[i], part, places[i]);
      written.append(reinterpret_cast<const char*>(&mine), sizeof mine);
    }
  sync_file(file, partial_path());
  return written;
}

void PackWriter::finish(std::string_view written) {
  PackAbout about = describe(options_);
  for (const Tensor& tensor : tensors_) {
    PackedTensor& packed = about.tensors[tensor.spec.name];
    packed.form = tensor.form;
    for (int64_t part = 0; part < tensor.num_parts; ++part) {
      WrittenPart next;
      NEMO_CHECK(written.size() >= sizeof next, tensor.spec.name);
      std::memcpy(&next, written.data(), sizeof next);
      written.remove_prefix(sizeof next);
      packed.checksums.push_back(next.checksum);
      packed.scales.push_back(next.scale);
    }
  }
  const std::string text = pack_about_text(about);
  const Hdf5Quiet quiet;
  {
    const Hdf5Handle dataset = create_bytes(*file_, "/about", 1, text.size());
    file_->check(H5Dwrite(dataset.get(), H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()),
                 kCannotWrite);
  }
  file_->close();
  AtomicFile::publish_partial(options_.out_path);
  file_.reset();
}

PackSummary write_pack(const PackOptions& options) {
  PackWriter writer(options);
  const std::vector<uint64_t> places = writer.lay_out();
  writer.finish(writer.write_share(places, 0, 1));
  return writer.summary();
}

}  // namespace nemo
