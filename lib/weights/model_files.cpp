#include "lib/weights/model_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "kernels/error.h"
#include "lib/config/json_text.h"
#include "lib/weights/pack/pack_file.h"

namespace nemo {
namespace {

namespace fs = std::filesystem;

constexpr std::array kFileNames = {"chat_template.jinja",  "config.json",    "generation_config.json",
                                   "hf_quant_config.json", "tokenizer.json", "tokenizer_config.json"};
constexpr const char* kTemplateFolder = "additional_chat_templates";

}  // namespace

bool is_pack(const std::string& path) {
  constexpr std::array<char, 8> signature = {'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  std::array<char, 8> begin{};
  std::ifstream(path, std::ios::binary).read(begin.data(), begin.size());
  return begin == signature;
}

std::vector<std::string> model_file_names(const std::string& model_path) {
  std::vector<std::string> names;
  if (is_pack(model_path)) {
    for (const auto& [name, text] : read_pack_about(model_path).files) names.push_back(name);
    return names;
  }
  for (const char* name : kFileNames)
    if (fs::exists(fs::path(model_path) / name)) names.push_back(name);
  if (const fs::path more = fs::path(model_path) / kTemplateFolder; fs::is_directory(more))
    for (const auto& entry : fs::directory_iterator(more))
      names.push_back(kTemplateFolder + ("/" + entry.path().filename().string()));
  std::ranges::sort(names);
  return names;
}

std::string model_file_place(const std::string& model_path, const std::string& name) {
  return is_pack(model_path) ? model_path + ": " + name : (fs::path(model_path) / name).string();
}

std::optional<std::string> find_model_file(const std::string& model_path, const std::string& name,
                                           uint64_t max_bytes) {
  if (is_pack(model_path)) {
    const PackAbout about = read_pack_about(model_path);
    const auto file = about.files.find(name);
    if (file == about.files.end()) return std::nullopt;
    if (file->second.size() > max_bytes) throw Error(model_path + ": " + name, "is too large", "");
    return file->second;
  }
  const fs::path path = fs::path(model_path) / name;
  if (!fs::exists(path)) return std::nullopt;
  return read_text_file(path.string(), max_bytes);
}

}  // namespace nemo
