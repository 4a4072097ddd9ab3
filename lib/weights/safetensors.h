// safetensors: the header of one file, read and checked as if it came from a stranger. Internal to
// lib/weights.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/weights/weight_source.h"

namespace nemo {

/// The longest header we read. The largest published index names 165,860 tensors, some 25 MB in one file.
constexpr uint64_t kMaxSafetensorsHeaderBytes = 100ULL << 20;

/// Parses the JSON header of `file`. `data_begin` is the offset of the data section in the file and
/// `data_bytes` its length; the tensors' `begin_byte` count from the beginning of the file. Throws Error
/// naming file and tensor for bad JSON, unknown types, sizes that disagree with type and shape, and offsets
/// that overlap, leave gaps or leave the file.
std::vector<TensorInfo> parse_safetensors_header(std::string_view json_text, const std::string& file,
                                                 uint64_t data_begin, uint64_t data_bytes);

}  // namespace nemo
