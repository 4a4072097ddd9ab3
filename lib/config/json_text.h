// Reading JSON files of strangers: size and depth limits, no duplicate keys, Python's bare Infinity and NaN,
// and every failure as one Error that names file, line and column.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace nemo {

/// Parses one JSON document. Bare `Infinity`, `-Infinity` and `NaN`, which Python writes and JSON forbids,
/// become the strings "Infinity", "-Infinity" and "NaN". Throws Error for a syntax error, a key given twice
/// in one object, or nesting deeper than 64.
nlohmann::json parse_json(std::string_view text, const std::string& where);

/// The whole file. Throws Error if it cannot be read or has more than `max_bytes`.
std::string read_text_file(const std::string& path, uint64_t max_bytes);

/// A value as people should see it in an error: one line, at most about 60 characters.
std::string json_excerpt(const nlohmann::json& value);

}  // namespace nemo
