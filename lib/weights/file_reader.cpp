#include "lib/weights/file_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/error.h"

namespace nemo {
namespace {

// Large enough that disk and network file systems run at full speed, small enough for every system's limit on
// one read.
constexpr size_t kPieceBytes = 64ULL << 20;

// What is smaller is read through the cache: with it comes what lies around it, which is asked for next.
constexpr size_t kLeastDirectBytes = 1ULL << 18;

// Offsets, sizes and addresses of direct reads are multiples of a device's sector, which is one of these two.
// A device of the larger refuses what has only the smaller, and the cache is read instead.
constexpr size_t kSector = 512;
constexpr size_t kPage = 4096;

struct Free {
  void operator()(std::byte* pages) const { std::free(pages); }
};

}  // namespace

void FileReader::Unmap::operator()(std::byte* mapping) const {
  ::munmap(mapping, size);
}

FileReader::FileReader(const std::string& path, Readers readers)
    : path_(path), cached_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (!cached_.is_open()) throw Error(path_, std::string("cannot be opened: ") + std::strerror(errno), "");
  struct stat status {};
  if (::fstat(cached_.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw Error(path_, "is not a regular file", "");
  size_ = static_cast<uint64_t>(status.st_size);
  if (size_ < kLeastDirectBytes || readers == Readers::kOthersToo) return;
  void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, cached_.get(), 0);
  if (mapping == MAP_FAILED) return;
  mapping_ = {static_cast<std::byte*>(mapping), Unmap{size_}};
  direct_ = FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
}

bool FileReader::is_in_cache(uint64_t offset, size_t num_bytes) const {
  const uint64_t begin = offset / kPage * kPage, length = std::min(offset + num_bytes, size_) - begin;
  std::vector<unsigned char> resident(length / static_cast<size_t>(sysconf(_SC_PAGESIZE)) + 1);
  if (::mincore(mapping_.get() + begin, length, resident.data()) != 0) return true;
  return std::ranges::all_of(resident, [](unsigned char page) { return (page & 1) != 0; });
}

void FileReader::read(uint64_t offset, std::span<std::byte> out, const std::string& what) const {
  size_t done = 0;
  if (out.size() >= kLeastDirectBytes && direct_.is_open() && offset < size_ &&
      !is_in_cache(offset, out.size()))
    done = read_directly(offset, out);
  read_cached(offset + done, out.subspan(done), what);
}

void FileReader::read_cached(uint64_t offset, std::span<std::byte> out, const std::string& what) const {
  size_t done = 0;
  while (done < out.size()) {
    const size_t piece = std::min(kPieceBytes, out.size() - done);
    const ssize_t count = ::pread(cached_.get(), out.data() + done, piece, static_cast<off_t>(offset + done));
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

/// Fills whole sectors and returns how many bytes there were. Ends early at the end of the file, and at the
/// first trouble, which read_cached meets again and reports.
size_t FileReader::read_sectors(uint64_t offset, std::span<std::byte> sectors) const {
  size_t done = 0;
  while (done < sectors.size()) {
    const size_t piece = std::min(kPieceBytes, sectors.size() - done);
    const ssize_t count =
        ::pread(direct_.get(), sectors.data() + done, piece, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += static_cast<size_t>(count);
    if (static_cast<size_t>(count) % kSector != 0) break;
  }
  return done;
}

/// Reads from the beginning of `out` as much of it as direct reads give; returns how much.
size_t FileReader::read_directly(uint64_t offset, std::span<std::byte> out) const {
  if (offset % kSector == 0 && reinterpret_cast<uintptr_t>(out.data()) % kSector == 0)
    return read_sectors(offset, out.first(out.size() / kSector * kSector));
  const size_t skipped = offset % kPage;
  constexpr size_t kBounceBytes = 4ULL << 20;
  const size_t room = std::min(kBounceBytes, (skipped + out.size() + kPage - 1) / kPage * kPage);
  const std::unique_ptr<std::byte, Free> pages(static_cast<std::byte*>(std::aligned_alloc(kPage, room)));
  if (pages == nullptr) return 0;
  size_t done = 0;
  while (done < out.size()) {
    const size_t begin = (offset + done) % kPage;
    const size_t wanted = std::min(room, (begin + out.size() - done + kPage - 1) / kPage * kPage);
    const size_t count = read_sectors(offset + done - begin, {pages.get(), wanted});
    if (count <= begin) break;
    const size_t taken = std::min(count - begin, out.size() - done);
    std::memcpy(out.data() + done, pages.get() + begin, taken);
    done += taken;
  }
  return done;
}

}  // namespace nemo
