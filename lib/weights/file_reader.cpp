#include "lib/weights/file_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace nemo {
namespace {

// Large enough that disk and network file systems run at full speed, small enough for every system's limit on
// one read.
constexpr size_t kPieceBytes = 64ULL << 20;

}  // namespace

FileReader::FileReader(const std::string& path)
    : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) throw Error(path_, std::string("cannot be opened: ") + std::strerror(errno), "");
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(path_, "is not a regular file", "");
  }
  size_ = static_cast<uint64_t>(status.st_size);
}

FileReader::~FileReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

void FileReader::read(uint64_t offset, std::span<std::byte> out, const std::string& what) const {
  size_t done = 0;
  while (done < out.size()) {
    const size_t piece = std::min(kPieceBytes, out.size() - done);
    const ssize_t count = ::pread(descriptor_, out.data() + done, piece, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw Error(path_ + ": " + what, std::string("cannot be read: ") + std::strerror(errno), "");
    if (count == 0) {
      throw Error(path_ + ": " + what,
                  "the file ends at byte " + std::to_string(offset + done) + ", " +
                      std::to_string(out.size() - done) + " bytes too early",
                  "the file is damaged or being written; fetch it again");
    }
    done += static_cast<size_t>(count);
  }
}

}  // namespace nemo
