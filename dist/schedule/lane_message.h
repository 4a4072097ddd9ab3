// What lane heads and the coordinator say to each other: one letter for the kind, then the value. Small
// enough to need no more structure than that.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "kernels/error.h"

namespace nemo::dist {

enum class ToCoordinator : char {
  kWant = 'W',      ///< int64: so many requests more
  kRecord = 'R',    ///< Record: finished
  kProgress = 'P',  ///< SampleProgress: to be saved
  kCounters = 'C',  ///< LaneCounters: alive, and how far
  kFinished = 'F',  ///< nothing: this lane will not ask or deliver any more
};

enum class ToLane : char {
  kRequest = 'Q',    ///< Request
  kExhausted = 'N',  ///< nothing: no request will come any more
  kStop = 'S',       ///< nothing: give what is not finished as progress and forget it
};

/// Tokens since the start, for progress.
struct LaneCounters {
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  int64_t preemptions = 0;
};

template <class Kind>
std::string lane_message(Kind kind, std::string_view payload = {}) {
  std::string bytes(1, static_cast<char>(kind));
  bytes.append(payload);
  return bytes;
}

/// A trivially copyable value as payload.
template <class Value>
std::string_view payload_of(const Value& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(Value)};
}

template <class Value>
Value value_from(std::string_view payload) {
  NEMO_CHECK(payload.size() == sizeof(Value), "lane message of " + std::to_string(payload.size()) + " bytes");
  Value value;
  std::memcpy(&value, payload.data(), sizeof(Value));
  return value;
}

}  // namespace nemo::dist
