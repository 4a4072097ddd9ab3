// JSON objects as their members' texts: what a line says beyond what we understand is passed on verbatim,
// with the order of keys and the spelling of numbers as the user wrote them. A parsed value would keep
// neither.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

struct JsonMember {
  std::string key;            ///< unescaped
  std::string_view key_json;  ///< as written, with its quotes
  std::string_view value;     ///< JSON text
};

/// Why `text` is not one JSON value nested at most 256 deep, or nothing if it is.
std::optional<std::string> find_json_fault(std::string_view text);

/// The members of the object `text`, in order; views into `text`. `text` must be valid JSON (see
/// find_json_fault). Nothing if it is not an object.
std::optional<std::vector<JsonMember>> json_members(std::string_view text);

}  // namespace nemo
