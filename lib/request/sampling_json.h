// Sampling keys of an input line: JSON onto SamplingParams.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "lib/request/request.h"

namespace nemo {

/// Whether `key` is a key of the job's `sampling` section, which a line may override.
bool is_sampling_key(std::string_view key);

/// Sets the member `key` (see is_sampling_key) of `sampling`. Returns what is wrong with the value's type
/// ("temperature must be a number, not \"hot\""), or nothing. Ranges are invalid_sampling's business, once
/// all keys are set.
std::optional<std::string> set_sampling_key(SamplingParams& sampling, std::string_view key,
                                            const nlohmann::json& value);

}  // namespace nemo
