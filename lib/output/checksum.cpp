#include "lib/output/checksum.h"

#define XXH_INLINE_ALL  // header only: nothing to link, and short inputs are hashed without a call
#include <xxhash.h>

namespace nemo {

uint64_t checksum(std::string_view bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace nemo
