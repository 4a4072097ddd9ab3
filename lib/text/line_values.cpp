#include "lib/text/line_values.h"

#include <charconv>

#include "lib/text/text_error.h"

namespace nemo {
namespace {

nlohmann::json parsed_scalar(const JsonMember& member, const char* expected) {
  const char first = member.value.front();
  if (first == '{' || first == '[') throw_malformed("\"" + member.key + "\" must be " + expected);
  return nlohmann::json::parse(member.value);
}

}  // namespace

void throw_malformed(const std::string& what) {
  throw TextError("malformed_line", what);
}
void throw_bad_parameter(const std::string& what) {
  throw TextError("bad_parameter", what);
}

std::string string_value(const JsonMember& member) {
  const nlohmann::json value = parsed_scalar(member, "a string");
  if (!value.is_string()) throw_malformed("\"" + member.key + "\" must be a string");
  return value.get<std::string>();
}

bool bool_value(const JsonMember& member) {
  const nlohmann::json value = parsed_scalar(member, "true or false");
  if (!value.is_boolean()) throw_malformed("\"" + member.key + "\" must be true or false");
  return value.get<bool>();
}

int64_t int_value(const JsonMember& member) {
  int64_t number = 0;
  const auto [end, error] =
      std::from_chars(member.value.data(), member.value.data() + member.value.size(), number);
  if (error != std::errc() || end != member.value.data() + member.value.size()) {
    throw_malformed("\"" + member.key + "\" must be an integer");
  }
  return number;
}

std::vector<int32_t> ids_value(const JsonMember& member) {
  const auto fail = [&] { throw_malformed("\"" + member.key + "\" must be a list of token ids"); };
  std::string_view rest = member.value;
  if (rest.front() != '[') fail();
  rest.remove_prefix(1);
  std::vector<int32_t> ids;
  for (;;) {
    // The text is valid JSON, so between two integers there is one comma.
    const size_t begin = rest.find_first_not_of(" \t\r\n,");
    rest.remove_prefix(begin);
    if (rest.front() == ']') return ids;
    int32_t id = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), id);
    if (error != std::errc() || id < 0) fail();
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    if (std::string_view(" \t\r\n,]").find(rest.front()) == std::string_view::npos) fail();  // 1.5, 1e3
    ids.push_back(id);
  }
}

std::string_view object_value(const JsonMember& member) {
  if (member.value != "null" && member.value.front() != '{') {
    throw_malformed("\"" + member.key + "\" must be an object");
  }
  return member.value == "null" ? std::string_view() : member.value;
}

std::string_view list_value(const JsonMember& member) {
  if (member.value != "null" && member.value.front() != '[')
    throw_malformed("\"" + member.key + "\" must be a list");
  return member.value == "null" ? std::string_view() : member.value;
}

}  // namespace nemo
