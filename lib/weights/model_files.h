// The small files of a model, whether it is a Hugging Face folder or a pack (lib/weights/pack), which carries
// them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nemo {

/// Whether `path` is an HDF5 file, by its first bytes: then it must be a pack.
bool is_pack(const std::string& path);

/// Those that are there of the files that a job reads besides weights: "config.json", "tokenizer.json",
/// "additional_chat_templates/rag.jinja", ..., sorted.
std::vector<std::string> model_file_names(const std::string& model_path);

/// One of them as errors should name it: "folder/config.json", "model.h5: config.json".
std::string model_file_place(const std::string& model_path, const std::string& name);

/// The text of one of them, or nothing. Throws Error if it cannot be read or has more than `max_bytes`.
std::optional<std::string> find_model_file(const std::string& model_path, const std::string& name,
                                           uint64_t max_bytes);

}  // namespace nemo
