// Runs the files of the folders given through a fuzz target, so that every build, with any compiler, holds
// what fuzzing has found. A crash, an unexpected exception, or too much memory fails the test.
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>

#include "tests/fuzz/fuzzing.h"

namespace {

namespace fs = std::filesystem;

// Sanitizers reserve address space by the terabyte, so there the limit would only be in their way.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void limit_memory() {
  constexpr rlim_t kBytes = rlim_t{2} << 30;
  const rlimit limit = {kBytes, kBytes};
  nemo::fuzz::require(setrlimit(RLIMIT_AS, &limit) == 0, "memory can be limited");
}
#else
void limit_memory() {}
#endif

std::vector<fs::path> files_of(int argc, char** argv) {
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : fs::recursive_directory_iterator(argv[i])) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

void run(const fs::path& path) {
  std::fprintf(stderr, "%s\n", path.filename().c_str());  // before the run: a crash does not tell
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  // Of the exact size, so that a sanitizer sees every read past its end.
  const auto copy = std::make_unique<uint8_t[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
  LLVMFuzzerTestOneInput(copy.get(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  limit_memory();
  const std::vector<fs::path> files = files_of(argc, argv);
  for (const fs::path& file : files) run(file);
  std::printf("%zu inputs\n", files.size());
  return files.empty() ? 1 : 0;
}
