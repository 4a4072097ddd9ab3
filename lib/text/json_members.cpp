#include "lib/text/json_members.h"

#include <nlohmann/json.hpp>

#include "lib/text/utf8.h"

namespace nemo {
namespace {

// Deep enough for any tool schema; our writers and Python's reader use a level of stack for each level of a
// value.
constexpr size_t kMaxDepth = 256;
constexpr size_t kMaxFaultBytes = 200;

// Takes note of the first fault and of nothing else.
class FaultFinder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return deeper(); }
  bool key(string_t&) override { return true; }
  bool end_object() override { return shallower(); }
  bool start_array(size_t) override { return deeper(); }
  bool end_array() override { return shallower(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    const std::string_view what = error.what();
    fault = what.substr(what.starts_with("[") ? what.find("] ") + 2 : 0).substr(0, kMaxFaultBytes);
    return false;
  }

  std::string fault;

 private:
  bool deeper() {
    if (++depth_ <= kMaxDepth) return true;
    fault = "is nested deeper than " + std::to_string(kMaxDepth) + " levels";
    return false;
  }
  bool shallower() {
    --depth_;
    return true;
  }
  size_t depth_ = 0;
};

bool is_json_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// Walks over valid JSON, so it needs to look for ends only.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) { skip_space(); }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip(size_t count) {
    at_ += count;
    skip_space();
  }

  std::string_view value() {
    const size_t begin = at_;
    if (peek() == '"') {
      string();
    } else if (peek() == '{' || peek() == '[') {
      nested();
    } else {
      while (at_ < text_.size() && !is_json_space(peek()) && peek() != ',' && peek() != '}' && peek() != ']')
        ++at_;
    }
    const std::string_view result = text_.substr(begin, at_ - begin);
    skip_space();
    return result;
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && is_json_space(text_[at_])) ++at_;
  }

  void string() {
    ++at_;
    while (peek() != '"') at_ += peek() == '\\' ? 2 : 1;
    ++at_;
  }

  void nested() {
    size_t depth = 0;
    do {
      const char c = peek();
      if (c == '"') {
        string();
        continue;
      }
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      ++at_;
    } while (depth > 0);
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::optional<std::string> find_json_fault(std::string_view text) {
  FaultFinder finder;
  if (nlohmann::json::sax_parse(text, &finder)) return std::nullopt;
  std::string fault;
  move_utf8(finder.fault, fault, OpenTail::kReplace);  // it may have been cut inside a character
  return fault;
}

std::optional<std::vector<JsonMember>> json_members(std::string_view text) {
  Cursor cursor(text);
  if (cursor.peek() != '{') return std::nullopt;
  cursor.skip(1);
  std::vector<JsonMember> members;
  while (cursor.peek() != '}') {
    if (cursor.peek() == ',') cursor.skip(1);
    JsonMember member;
    member.key_json = cursor.value();
    member.key = nlohmann::json::parse(member.key_json).get<std::string>();
    cursor.skip(1);  // the colon
    member.value = cursor.value();
    members.push_back(std::move(member));
  }
  return members;
}

}  // namespace nemo
