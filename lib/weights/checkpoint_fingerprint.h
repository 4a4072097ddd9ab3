// A short name for the contents of a checkpoint, by which a resumed job knows its model again.
#pragma once

#include <string>

namespace nemo {

/// 32 hexadecimal digits of config.json and of every safetensors file in `model_path`: its size, its header
/// and evenly spread samples of its bytes (all of it if it is small). Reads little of a large checkpoint: it
/// guards against a model that was exchanged or damaged by mistake, not against malice. Of a pack: that of
/// the folder it was made from. Throws Error for a file that cannot be read.
std::string fingerprint_checkpoint(const std::string& model_path);

/// The same of what turns text into tokens: the tokenizer and the chat templates that are there.
std::string fingerprint_tokenizer(const std::string& model_path);

}  // namespace nemo
