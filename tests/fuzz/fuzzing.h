// What the fuzz targets share: which exceptions are an answer to bad input, claims about what was accepted,
// and files for those readers that want a path.
#pragma once

#include <stdlib.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"
#include "lib/text/text_error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace nemo::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Ends the program, which is how a target reports a finding.
inline void require(bool claim, std::string_view what) {
  if (claim) return;
  std::fprintf(stderr, "not so: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

/// Whether NEMO_CHECK made the text: its place is a line of a source file. Inputs are quoted further behind,
/// so one that holds these very words is not taken for it.
inline bool is_broken_invariant(std::string_view what) {
  const size_t words = what.find(": broken invariant `");
  if (words == std::string_view::npos) return false;
  const std::string_view place = what.substr(0, words);
  const std::string_view file = place.substr(0, place.find_last_not_of("0123456789") + 1);
  return file.size() < place.size() && file.find(' ') == std::string_view::npos &&
         (file.ends_with(".cpp:") || file.ends_with(".h:"));
}

/// Runs `body` and returns whether it came to its end. Error and TextError refuse input; all else that comes
/// out is a finding, also an Error that calls input a bug of ours.
template <class Body>
bool accepts(const Body& body) {
  try {
    body();
    return true;
  } catch (const Error& error) {
    require(!is_broken_invariant(error.what()), error.what());
  } catch (const TextError&) {
  }
  return false;
}

/// The parts of an input that stands for several texts: what lies between its zero bytes. Missing ones are
/// empty; the last has all the rest.
inline std::vector<std::string> split(std::string_view input, size_t num_parts) {
  std::vector<std::string> parts;
  while (parts.size() + 1 < num_parts) {
    const size_t end = input.find('\0');
    parts.emplace_back(input.substr(0, end));
    input = end == std::string_view::npos ? std::string_view() : input.substr(end + 1);
  }
  parts.emplace_back(input);
  return parts;
}

/// A folder in memory for one process, removed at its orderly end.
class Folder {
 public:
  Folder() {
    std::string pattern = "/dev/shm/nemo-fuzz-XXXXXX";
    require(mkdtemp(pattern.data()) != nullptr, "a folder can be made in /dev/shm");
    path_ = pattern;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

  /// Replaces the file; returns its path.
  std::string write(const std::string& name, std::string_view bytes) const {
    const std::string path = path_ + "/" + name;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    return path;
  }

 private:
  std::string path_;
};

}  // namespace nemo::fuzz
