// FileReader: one file open for reading at any position. Internal to lib/weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace nemo {

class FileReader {
 public:
  /// Throws Error naming the file and the system's reason.
  explicit FileReader(const std::string& path);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&& other) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }

  /// Fills `out` from `offset`. `what` names what is read in errors. Throws Error if the file ends before or
  /// cannot be read. Safe to call from several threads at once.
  void read(uint64_t offset, std::span<std::byte> out, const std::string& what) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace nemo
