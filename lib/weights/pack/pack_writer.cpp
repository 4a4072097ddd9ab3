#include "lib/weights/pack/pack_writer.h"

#include <filesystem>
#include <map>
#include <span>
#include <vector>

#include "kernels/error.h"
#include "lib/output/files.h"
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

/// One data set of bytes, [parts, bytes of a part], written part after part.
class ByteRows {
 public:
  ByteRows(const Hdf5File& file, const std::string& name, uint64_t num_parts, uint64_t part_bytes)
      : file_(file), part_bytes_(part_bytes) {
    const hsize_t size[2] = {num_parts, part_bytes};
    const Hdf5Handle space(file.check(H5Screate_simple(2, size, nullptr), "cannot write"), H5Sclose);
    const Hdf5Handle creation(file.check(H5Pcreate(H5P_DATASET_CREATE), "cannot write"), H5Pclose);
    file.check(H5Pset_layout(creation.get(), H5D_CONTIGUOUS), "cannot write");
    file.check(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), "cannot write");  // all is written once
    file.check(H5Pset_obj_track_times(creation.get(), false), "cannot write");
    const Hdf5Handle links(file.check(H5Pcreate(H5P_LINK_CREATE), "cannot write"), H5Pclose);
    file.check(H5Pset_create_intermediate_group(links.get(), 1), "cannot write");
    dataset_ = Hdf5Handle(file.check(H5Dcreate2(file.id(), name.c_str(), H5T_STD_U8LE, space.get(),
                                                links.get(), creation.get(), H5P_DEFAULT),
                                     "cannot write"),
                          H5Dclose);
  }

  void append(std::span<const std::byte> part) {
    NEMO_CHECK(part.size() == part_bytes_, std::to_string(part.size()));
    const hsize_t begin[2] = {num_written_++, 0};
    const hsize_t count[2] = {1, part_bytes_};
    const Hdf5Handle memory(file_.check(H5Screate_simple(2, count, nullptr), "cannot write"), H5Sclose);
    const Hdf5Handle space(file_.check(H5Dget_space(dataset_.get()), "cannot write"), H5Sclose);
    file_.check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, begin, nullptr, count, nullptr),
                "cannot write");
    file_.check(H5Dwrite(dataset_.get(), H5T_STD_U8LE, memory.get(), space.get(), H5P_DEFAULT, part.data()),
                "cannot write");
  }

 private:
  const Hdf5File& file_;
  uint64_t part_bytes_;
  hsize_t num_written_ = 0;
  Hdf5Handle dataset_;
};

class PackWriter {
 public:
  PackWriter(const Checkpoint& checkpoint, const ModelConfig& config, kernels::DType dtype)
      : checkpoint_(checkpoint), config_(config), dtype_(dtype) {}

  /// What the tensor will take in the pack.
  uint64_t bytes_of_tensor(const TensorSpec& spec) const {
    const kernels::DType kept = pack_dtype(spec, dtype_);
    if (!is_packed_matrix(spec))
      return static_cast<uint64_t>(spec.num_elements() * kernels::dtype_bytes(kept));
    const StoredAs stored = checkpoint_.stored_as(source_name(spec, 0));
    const kernels::WeightFormat format = stored == StoredAs::kFp8     ? kernels::WeightFormat::kFp8
                                         : stored == StoredAs::kNvfp4 ? kernels::WeightFormat::kNvfp4
                                                                      : kernels::weight_format(kept);
    const size_t rank = spec.shape.size();
    return static_cast<uint64_t>(num_parts(spec) * kernels::PackedMatrix::packed_bytes(
                                                       format, spec.shape[rank - 2], spec.shape[rank - 1]));
  }

  void write(const Hdf5File& file, const TensorSpec& spec) {
    const kernels::DType kept = pack_dtype(spec, dtype_);
    if (is_packed_matrix(spec)) {
      write_matrix(file, spec, kept);
    } else if (kept == kernels::DType::kFloat32) {
      const std::vector<float> values = checkpoint_.read_f32(spec.name);
      write_plain(file, spec.name, kept, std::as_bytes(std::span(values)));
    } else {
      const std::vector<uint16_t> values = checkpoint_.read_bf16(spec.name);
      write_plain(file, spec.name, kept, std::as_bytes(std::span(values)));
    }
  }

  /// Those that the checkpoint has.
  void write_kv_scales(const Hdf5File& file) {
    for (const TensorSpec& spec : kv_scale_tensors(config_))
      if (const std::optional<float> scale = checkpoint_.kv_scale(spec.name))
        write_plain(file, spec.name, pack_dtype(spec, dtype_), std::as_bytes(std::span(&*scale, 1)));
  }

  std::map<std::string, PackedTensor, std::less<>> take() { return std::move(tensors_); }

 private:
  static int64_t num_parts(const TensorSpec& spec) {
    return spec.split == Split::kByExpert ? spec.shape[0] : 1;
  }

  std::string source_name(const TensorSpec& spec, int64_t part) const {
    if (spec.split == Split::kByExpert) return expert_tensor_name(spec.name, part);
    const bool is_tied_head = spec.role == TensorRole::kLmHead && config_.tie_word_embeddings;
    return is_tied_head ? tensor_name(TensorRole::kEmbedding, 0) : spec.name;
  }

  void write_plain(const Hdf5File& file, const std::string& name, kernels::DType dtype,
                   std::span<const std::byte> bytes) {
    ByteRows(file, "/tensors/" + name, 1, bytes.size()).append(bytes);
    tensors_[name] = {std::string(dtype_form(dtype)), {part_checksum(name, bytes)}, {1.0f}};
  }

  void write_matrix(const Hdf5File& file, const TensorSpec& spec, kernels::DType dtype) {
    const int64_t parts = num_parts(spec);
    ByteRows rows(file, "/tensors/" + spec.name, static_cast<uint64_t>(parts),
                  bytes_of_tensor(spec) / static_cast<uint64_t>(parts));
    PackedTensor& tensor = tensors_[spec.name];
    for (int64_t part = 0; part < parts; ++part) {
      const kernels::PackedMatrix matrix = load_matrix(checkpoint_, source_name(spec, part), dtype);
      const std::span bytes(matrix.data(), static_cast<size_t>(matrix.bytes()));
      rows.append(bytes);
      tensor.form = packed_form(matrix.format());
      tensor.checksums.push_back(part_checksum(spec.name, bytes));
      tensor.scales.push_back(matrix.scale());
    }
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  kernels::DType dtype_;
  std::map<std::string, PackedTensor, std::less<>> tensors_;
};

/// config.json and whatever else a job reads besides weights.
std::map<std::string, std::string> read_small_files(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const std::string& name : model_file_names(folder))
    files[name] = *find_model_file(folder, name, kMaxFileBytes);
  return files;
}

void check_way_is_free(const PackOptions& options) {
  if (is_pack(options.model_path))
    throw Error(options.model_path, "is a pack already", "--model is a Hugging Face folder",
                ErrorKind::kBadJob);
  if (fs::exists(options.out_path))
    throw Error(options.out_path, "is there already", "give another --out, or remove it first",
                ErrorKind::kBadJob);
}

void check_room(const std::string& path, uint64_t needed) {
  std::error_code unknown;
  const uint64_t free = fs::space(fs::absolute(path).parent_path(), unknown).available;
  if (unknown || needed <= free) return;  // a folder that is not there is found out when the file is made
  throw Error(
      path, "takes " + std::to_string(needed) + " bytes, but the disk has " + std::to_string(free) + " left",
      "choose another disk");
}

/// Removes what an error leaves behind; after success there is nothing of that name.
struct RemoveAtEnd {
  const std::string path;
  ~RemoveAtEnd() {
    std::error_code ignored;
    fs::remove(path, ignored);
  }
};

PackAbout describe(const PackOptions& options) {
  return {.dtype = std::string(dtype_form(options.dtype)),
          .layout = packed_layout(),
          .checkpoint = fingerprint_checkpoint(options.model_path),
          .tokenizer = fingerprint_tokenizer(options.model_path),
          .files = read_small_files(options.model_path)};
}

}  // namespace

PackSummary write_pack(const PackOptions& options) {
  check_way_is_free(options);
  const ModelConfig config = load_model_config(options.model_path);
  const Checkpoint checkpoint = Checkpoint::open(options.model_path, config);
  const std::vector<TensorSpec> specs = pack_tensors(config);
  PackAbout about = describe(options);
  PackWriter writer(checkpoint, config, options.dtype);
  PackSummary summary{.num_tensors = static_cast<int64_t>(specs.size())};
  for (const TensorSpec& spec : specs) summary.num_bytes += writer.bytes_of_tensor(spec);
  check_room(options.out_path, summary.num_bytes);

  const RemoveAtEnd partial{AtomicFile::partial_path(options.out_path)};
  const Hdf5Quiet quiet;
  Hdf5File file(partial.path, Hdf5Structures::kChecksummed);
  for (const TensorSpec& spec : specs) writer.write(file, spec);
  writer.write_kv_scales(file);
  about.tensors = writer.take();
  const std::string text = pack_about_text(about);
  ByteRows(file, "/about", 1, text.size()).append(std::as_bytes(std::span(text)));
  file.close();
  AtomicFile::publish_partial(options.out_path);
  return summary;
}

}  // namespace nemo
