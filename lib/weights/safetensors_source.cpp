// open_checkpoint: a Hugging Face folder of safetensors, single or sharded.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>

#include "kernels/error.h"
#include "lib/config/json_text.h"
#include "lib/weights/file_reader.h"
#include "lib/weights/safetensors.h"

namespace nemo {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxIndexBytes = 256ULL << 20;
constexpr uint64_t kLengthBytes = 8;

/// The header's tensors of one open file.
std::vector<TensorInfo> read_header(const FileReader& file) {
  if (file.size() < kLengthBytes) {
    throw Error(file.path(),
                "has " + std::to_string(file.size()) + " bytes; a safetensors file has at least 8",
                "the file is damaged; fetch it again");
  }
  unsigned char length_bytes[kLengthBytes];
  file.read(0, std::as_writable_bytes(std::span(length_bytes)), "header length");
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | length_bytes[i];
  if (length > kMaxSafetensorsHeaderBytes || length > file.size() - kLengthBytes) {
    throw Error(file.path(),
                "says its header has " + std::to_string(length) + " bytes, in a file of " +
                    std::to_string(file.size()),
                "the file is damaged or no safetensors file");
  }
  std::string text(length, '\0');
  file.read(kLengthBytes, std::as_writable_bytes(std::span(text)), "header");
  const uint64_t data_begin = kLengthBytes + length;
  return parse_safetensors_header(text, file.path(), data_begin, file.size() - data_begin);
}

class SafetensorsSource final : public WeightSource {
 public:
  explicit SafetensorsSource(Readers readers) : readers_(readers) {}

  /// All tensors of all files.
  void add_file(const std::string& path) {
    files_.emplace_back(path, readers_);
    for (TensorInfo& tensor : read_header(files_.back())) add(std::move(tensor));
  }

  /// Of the file, only the tensors in `wanted`, all of which must be there.
  void add_shard(const std::string& path, const std::vector<std::string>& wanted,
                 const std::string& index_path) {
    files_.emplace_back(path, readers_);
    std::map<std::string, TensorInfo> found;
    for (TensorInfo& tensor : read_header(files_.back())) found.emplace(tensor.name, std::move(tensor));
    for (const std::string& name : wanted) {
      auto node = found.extract(name);
      if (node.empty()) {
        throw Error(path + ": tensor " + json_excerpt(json(name)),
                    "is missing, but " + index_path + " says it is here",
                    "index and files are of different versions; fetch the folder again");
      }
      add(std::move(node.mapped()));
    }
  }

  const TensorInfo* find(std::string_view name) const override {
    const auto entry = tensors_.find(name);
    return entry == tensors_.end() ? nullptr : &entry->second;
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    result.reserve(tensors_.size());
    for (const auto& [name, tensor] : tensors_) result.push_back(name);
    return result;
  }

  void read(const TensorInfo& tensor, uint64_t begin_byte, std::span<std::byte> out) const override {
    NEMO_CHECK(begin_byte <= tensor.num_bytes && out.size() <= tensor.num_bytes - begin_byte, tensor.name);
    files_[static_cast<size_t>(tensor.file_idx)].read(tensor.begin_byte + begin_byte, out,
                                                      "tensor " + tensor.name);
    bytes_read_ += out.size();
  }

  uint64_t bytes_read() const override { return bytes_read_; }

 private:
  void add(TensorInfo tensor) {
    tensor.file_idx = static_cast<int32_t>(files_.size() - 1);
    std::string name = tensor.name;
    tensors_.emplace(std::move(name), std::move(tensor));
  }

  Readers readers_;
  std::vector<FileReader> files_;
  std::map<std::string, TensorInfo, std::less<>> tensors_;
  mutable std::atomic<uint64_t> bytes_read_ = 0;
};

/// Names of each shard's tensors out of model.safetensors.index.json.
std::map<std::string, std::vector<std::string>> read_index(const std::string& path) {
  const json index = parse_json(read_text_file(path, kMaxIndexBytes), path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw Error(path, "has no weight_map", "it must map each tensor to the file that holds it");
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    // A shard lies in the folder itself: a path could lead anywhere on the machine.
    if (shard.empty() || shard == "." || shard == ".." || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos) {
      throw Error(path + ": weight_map: tensor " + json_excerpt(json(tensor)),
                  json_excerpt(file) + " is not a file name", "");
    }
    shards[shard].push_back(tensor);
  }
  if (shards.empty()) throw Error(path, "names no tensor", "");
  return shards;
}

[[noreturn]] void refuse_other_formats(const fs::path& folder) {
  const std::string remedy =
      "nemo-dist reads model.safetensors, or model.safetensors.index.json with its shards";
  std::string what = "has no safetensors";
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth")) {
      what = "holds " + name + ", a pickled checkpoint, which is not read because it can run code";
    } else if (name.ends_with(".gguf")) {
      what = "holds " + name + ", a GGUF file, which is not supported";
    } else if (name.ends_with(".safetensors")) {
      what = "holds " + name + ", but no model.safetensors and no model.safetensors.index.json";
    } else {
      continue;
    }
    break;
  }
  throw Error(folder.string(), what, remedy);
}

void check_is_folder(const std::string& folder) {
  if (!fs::exists(folder)) {
    throw Error(folder, "does not exist", "model.path is a Hugging Face folder", ErrorKind::kBadJob);
  }
  if (fs::is_directory(folder)) return;
  const std::string extension = fs::path(folder).extension().string();
  if (extension == ".h5" || extension == ".hdf5") {
    throw Error(folder, "is no HDF5 file, although its name says so",
                "give a pack made by nemo-dist pack, or the Hugging Face folder");
  }
  if (extension == ".gguf") {
    throw Error(folder, "is a GGUF file, which is not supported", "give the Hugging Face folder instead");
  }
  throw Error(folder, "is not a folder", "model.path is a Hugging Face folder");
}

}  // namespace

std::unique_ptr<WeightSource> open_checkpoint(const std::string& folder, Readers readers) {
  check_is_folder(folder);
  auto source = std::make_unique<SafetensorsSource>(readers);
  const fs::path root(folder);
  const fs::path index = root / "model.safetensors.index.json";
  const fs::path single = root / "model.safetensors";
  if (fs::exists(index)) {
    for (const auto& [shard, tensors] : read_index(index.string())) {
      const fs::path path = root / shard;
      if (!fs::exists(path)) {
        throw Error(path.string(), "is missing, but " + index.string() + " names it",
                    "the folder is incomplete; fetch it again");
      }
      source->add_shard(path.string(), tensors, index.string());
    }
  } else if (fs::exists(single)) {
    source->add_file(single.string());
  } else {
    refuse_other_formats(root);
  }
  return source;
}

}  // namespace nemo
