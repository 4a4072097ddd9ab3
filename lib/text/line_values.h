// Typed values out of the JSON texts of a line's fields. All throw TextError that names the field.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/json_members.h"

namespace nemo {

[[noreturn]] void throw_malformed(const std::string& what);
[[noreturn]] void throw_bad_parameter(const std::string& what);

std::string string_value(const JsonMember& member);
/// A list of integers of [0, 2^31). Read straight from the text: a parsed value would take sixteen times its
/// memory.
std::vector<int32_t> ids_value(const JsonMember& member);
bool bool_value(const JsonMember& member);
int64_t int_value(const JsonMember& member);
/// The member's text, which must be an object or null.
std::string_view object_value(const JsonMember& member);
/// The member's text, which must be a list or null.
std::string_view list_value(const JsonMember& member);

}  // namespace nemo
