// XXH3-64 of some bytes: detects damage, promises nothing against intent.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nemo {

uint64_t checksum(std::string_view bytes, uint64_t seed = 0);
/// 32 hexadecimal digits of XXH3-128: names content that is too long to be quoted.
std::string content_hash(std::string_view bytes);

}  // namespace nemo
