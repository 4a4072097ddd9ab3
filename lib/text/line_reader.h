// FileLineReader: the lines of several files, plain or gzip, one behind the other, in bounded memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// A move-only value owning the open file.
class FileLineReader {
 public:
  static constexpr size_t kMaxLineBytes = 64 << 20;

  struct Line {
    std::string_view text;     ///< without its end; valid until the next call
    std::string_view file;     ///< its path
    int64_t number = 0;        ///< in its file, from 1
    bool is_too_long = false;  ///< then `text` is empty
  };

  explicit FileLineReader(std::vector<std::string> files);
  FileLineReader(FileLineReader&&) noexcept;
  FileLineReader& operator=(FileLineReader&&) noexcept;
  ~FileLineReader();

  /// The next line, or nothing at the end of the last file. Throws Error naming the file that cannot be
  /// opened or read on, also for gzip data that end early.
  std::optional<Line> next();

  const std::vector<std::string>& files() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace nemo
