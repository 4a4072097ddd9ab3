#include "lib/request/fingerprint.h"

#define XXH_INLINE_ALL  // header only: nothing to link
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#include "kernels/error.h"

namespace nemo {
namespace {

constexpr size_t kPieceBytes = 1 << 20;

class Hash {
 public:
  Hash() : state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
  }

  void add(const void* bytes, size_t count) { XXH3_128bits_update(state_.get(), bytes, count); }

  void add(uint64_t number) {
    std::array<unsigned char, 8> bytes{};
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(number >> (8 * i));
    add(bytes.data(), bytes.size());
  }

  std::string hex() const {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
    std::string text;
    for (const unsigned char byte : canonical.digest) {
      constexpr char kDigits[] = "0123456789abcdef";
      text += kDigits[byte >> 4];
      text += kDigits[byte & 15];
    }
    return text;
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

// The size follows the contents, so that the same bytes cut into other files are another input.
void add_file(Hash& hash, const std::string& path) {
  struct Close {
    void operator()(FILE* file) const { std::fclose(file); }
  };
  const auto fail = [&] {
    throw Error(path, std::string("cannot be read: ") + std::strerror(errno),
                "check the path and its permissions");
  };
  const std::unique_ptr<FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file) fail();
  std::string piece(kPieceBytes, '\0');
  uint64_t size = 0;
  while (const size_t count = std::fread(piece.data(), 1, piece.size(), file.get())) {
    hash.add(piece.data(), count);
    size += count;
  }
  if (std::ferror(file.get())) fail();
  hash.add(size);
}

}  // namespace

std::string fingerprint_bytes(std::string_view bytes) {
  Hash hash;
  hash.add(bytes.data(), bytes.size());
  return hash.hex();
}

std::string fingerprint_files(const std::vector<std::string>& paths) {
  Hash hash;
  for (const std::string& path : paths) add_file(hash, path);
  return hash.hex();
}

}  // namespace nemo
