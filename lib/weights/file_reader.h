// FileReader: one file open for reading at any position. Internal to lib/weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "lib/output/files.h"

namespace nemo {

/// Who else on this machine reads the same bytes at about the same time.
enum class Readers : uint8_t { kThisOne, kOthersToo };

class FileReader {
 public:
  /// Throws Error naming the file and the system's reason.
  explicit FileReader(const std::string& path, Readers readers = Readers::kThisOne);

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }

  /// Fills `out` from `offset`. `what` names what is read in errors. Throws Error if the file ends before or
  /// cannot be read. Safe to call from several threads at once.
  ///
  /// Large reads of bytes that nobody else reads go past the system's page cache, where it lets them: a copy
  /// there would cost as much memory and time again. What is in the cache already is taken from it.
  void read(uint64_t offset, std::span<std::byte> out, const std::string& what) const;

 private:
  void read_cached(uint64_t offset, std::span<std::byte> out, const std::string& what) const;
  bool is_in_cache(uint64_t offset, size_t num_bytes) const;
  size_t read_sectors(uint64_t offset, std::span<std::byte> sectors) const;
  size_t read_directly(uint64_t offset, std::span<std::byte> out) const;

  struct Unmap {
    uint64_t size;
    void operator()(std::byte* mapping) const;
  };

  std::string path_;
  uint64_t size_ = 0;
  FileDescriptor cached_;
  // Both only where the file system has direct reads. The mapping is never touched: through it the system
  // says what is in its cache.
  FileDescriptor direct_;
  std::unique_ptr<std::byte, Unmap> mapping_;
};

}  // namespace nemo
