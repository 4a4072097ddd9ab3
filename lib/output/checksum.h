// XXH3-64 of some bytes: detects damage, promises nothing against intent.
#pragma once

#include <cstdint>
#include <string_view>

namespace nemo {

uint64_t checksum(std::string_view bytes, uint64_t seed = 0);

}  // namespace nemo
