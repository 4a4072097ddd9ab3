// Fingerprints: short names for contents, by which a resumed job knows its input, tokenizer and checkpoint
// again. They guard against mistakes, not against malice.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// 32 hexadecimal digits (XXH3, 128 bits) of these bytes.
std::string fingerprint_bytes(std::string_view bytes);

/// The same of several files: of each one's size and contents in the order given, not of their names, so that
/// moved files are still the same. Reads them in pieces. Throws Error naming the file that cannot be read.
std::string fingerprint_files(const std::vector<std::string>& paths);

}  // namespace nemo
