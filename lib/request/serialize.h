// Requests and records as bytes: on the wire between ranks and as the payload of the journal. One form for
// both, so that what a lane sends is what the journal keeps.
//
// The form is little endian and versioned: a byte for the kind of value, a byte for the version, then the
// fields in the order of lib/request/request.h. Integers are 8 bytes, strings and arrays have a 4-byte count
// in front, floats keep their bits (also NaN and infinities).
#pragma once

#include <string>
#include <string_view>

#include "lib/request/request.h"

namespace nemo {

/// Exact: `request_from_bytes(to_bytes(r))` has every field of `r`. Throws Error if one string or array of
/// `request` has 2^32 elements or more.
std::string to_bytes(const Request& request);
std::string to_bytes(const Record& record);
std::string to_bytes(const SampleProgress& progress);

/// Throw Error on bytes that `to_bytes` cannot have made: another version, a count larger than what is left,
/// a value outside its enumeration, bytes left over. Counts are checked before memory is taken, so that bad
/// bytes cannot take more than a small multiple of their own size.
Request request_from_bytes(std::string_view bytes);
Record record_from_bytes(std::string_view bytes);
SampleProgress sample_progress_from_bytes(std::string_view bytes);

}  // namespace nemo
