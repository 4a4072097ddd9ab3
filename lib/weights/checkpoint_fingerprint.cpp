#include "lib/weights/checkpoint_fingerprint.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "kernels/error.h"
#include "lib/request/fingerprint.h"
#include "lib/weights/model_files.h"
#include "lib/weights/pack/pack_file.h"

namespace nemo {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kSampleBytes = int64_t{1} << 20;
constexpr int64_t kSamplesPerFile = 64;

std::vector<fs::path> weight_files(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::ranges::sort(files);
  return files;
}

/// Size and samples of one file. The first sample begins at byte 0 and so covers the header, or most of it.
std::string sample_file(const fs::path& path) {
  const auto size = static_cast<int64_t>(fs::file_size(path));
  std::ifstream file(path, std::ios::binary);
  std::string sampled = std::to_string(size) + ':';
  std::string buffer(static_cast<size_t>(std::min(size, kSampleBytes)), '\0');
  const int64_t stride = std::max(kSampleBytes, size / kSamplesPerFile);
  for (int64_t offset = 0; offset < size; offset += stride) {
    const int64_t count = std::min(kSampleBytes, size - offset);
    file.seekg(offset);
    if (!file.read(buffer.data(), count))
      throw Error(path.string(), "cannot be read at byte " + std::to_string(offset),
                  "is the file whole and readable?");
    sampled += fingerprint_bytes({buffer.data(), static_cast<size_t>(count)});
  }
  return sampled;
}

}  // namespace

std::string fingerprint_checkpoint(const std::string& model_path) {
  if (is_pack(model_path)) return read_pack_about(model_path).checkpoint;
  std::string parts = fingerprint_files({model_path + "/config.json"});
  for (const fs::path& path : weight_files(model_path)) parts += sample_file(path);
  return fingerprint_bytes(parts);
}

std::string fingerprint_tokenizer(const std::string& model_path) {
  if (is_pack(model_path)) return read_pack_about(model_path).tokenizer;
  std::vector<std::string> files;
  for (const std::string& name : model_file_names(model_path))
    if (name.starts_with("tokenizer") || name.find("chat_template") != std::string::npos)
      files.push_back(model_path + "/" + name);
  return fingerprint_files(files);
}

}  // namespace nemo
