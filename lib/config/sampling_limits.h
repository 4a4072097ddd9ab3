// The one place that says which sampling values are allowed, for the job's `sampling` section and for the
// keys of an input line alike.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/request/request.h"

namespace nemo {

/// What is wrong with one sampling value.
struct SamplingFault {
  std::string_view key;  ///< as in the job file: "top_p"
  std::string what;      ///< "must be greater than 0 and at most 1, not 1.5"
};

/// The first fault in the order of SamplingParams' members, or nothing if all values are allowed. Never
/// throws.
std::optional<SamplingFault> find_sampling_fault(const SamplingParams& sampling);

/// The same as one text, "top_p must be greater than 0 and at most 1, not 1.5".
std::optional<std::string> invalid_sampling(const SamplingParams& sampling);

}  // namespace nemo
