// Random numbers without a state: a draw is a function of where it is used, not of how many were made before.
#pragma once

#include <Random123/philox.h>

#include <cstdint>

namespace nemo {

/// A uniform number in the open interval (0, 1): an odd multiple of 2^-53, from Philox4x32-10 with `seed` as
/// key and (stream, sample, position) as counter. Odd multiples because then neither 0 nor 1 can occur, not
/// even by rounding.
inline double uniform_draw(uint64_t seed, uint64_t stream, uint32_t sample, uint32_t position) {
  const r123::Philox4x32::key_type key = {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  const r123::Philox4x32::ctr_type counter = {
      {static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32), sample, position}};
  const r123::Philox4x32::ctr_type words = r123::Philox4x32()(counter, key);
  const uint64_t bits = (static_cast<uint64_t>(words[1]) << 32 | words[0]) >> 11;  // 53 of them
  return static_cast<double>(bits | 1) * 0x1p-53;
}

}  // namespace nemo
