// Reads of any place and size, from the cache and past it.
#include "lib/weights/file_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

constexpr size_t kFileBytes = (size_t{9} << 20) + 123;

class FileReaderTest : public testing::Test {
 protected:
  FileReaderTest() {
    std::mt19937 random(1);
    for (char& byte : bytes_) byte = static_cast<char>(random());
    path_ = folder_.write("file", bytes_);
  }

  /// Takes the file out of the system's cache, so that large reads go past it.
  void make_cold() const {
    const FileDescriptor file = open_file(path_, O_RDWR);
    sync_file(file, path_);
    ASSERT_EQ(posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  }

  void expect_reads_right(uint64_t offset, size_t size, size_t misalignment) const {
    const FileReader reader(path_);
    std::vector<std::byte> room(size + 8192);
    const size_t to_page = 4096 - reinterpret_cast<uintptr_t>(room.data()) % 4096;
    const std::span<std::byte> out(room.data() + to_page + misalignment, size);
    room[to_page + misalignment + size] = std::byte{77};
    reader.read(offset, out, "tensor x");
    EXPECT_EQ(std::memcmp(out.data(), bytes_.data() + offset, size), 0) << offset << ", " << size;
    EXPECT_EQ(room[to_page + misalignment + size], std::byte{77});
  }

  TemporaryFolder folder_;
  std::string bytes_ = std::string(kFileBytes, '\0');
  std::string path_;
};

TEST_F(FileReaderTest, AnyPlaceAndSizeColdAndWarm) {
  for (const bool is_cold : {true, false})
    for (const uint64_t offset : {0UL, 1UL, 512UL, 4096UL, 4097UL, 1000000UL})
      for (const size_t size : {size_t{1} << 18, size_t{1} << 20, (size_t{6} << 20) + 5, kFileBytes - offset})
        for (const size_t misalignment : {0, 1, 512}) {
          if (is_cold) make_cold();
          expect_reads_right(offset, std::min(size, kFileBytes - offset), misalignment);
        }
}

TEST_F(FileReaderTest, AFileThatEndsTooEarlyIsNamed) {
  for (const size_t misalignment : {0, 1}) {
    make_cold();
    const FileReader reader(path_);
    std::vector<std::byte> out((size_t{1} << 20) + misalignment);
    const std::string error =
        error_of([&] { reader.read(kFileBytes - (1 << 19) + misalignment, out, "tensor x"); });
    EXPECT_NE(error.find("tensor x"), std::string::npos) << error;
    EXPECT_NE(error.find("ends at byte " + std::to_string(kFileBytes)), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace nemo
