// A short name for the contents of a checkpoint, by which a resumed job knows its model again.
#pragma once

#include <string>

namespace nemo {

/// 32 hexadecimal digits of config.json and of every safetensors file in `folder`: its size, its header and
/// evenly spread samples of its bytes (all of it if it is small). Reads little of a large checkpoint: it
/// guards against a model that was exchanged or damaged by mistake, not against malice. Throws Error for a
/// file that cannot be read.
std::string fingerprint_checkpoint(const std::string& folder);

}  // namespace nemo
