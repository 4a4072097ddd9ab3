#include "lib/output/json_line.h"

#include <charconv>
#include <cmath>

namespace nemo {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the valid UTF-8 sequence at the start of `text`; 0 if there is none. No overlong forms, no
// surrogates.
size_t utf8_length(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;
  if (lead == 0xED && byte(1) > 0x9F) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

void append_escaped(std::string& out, char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    default:
      break;
  }
  if (static_cast<unsigned char>(c) >= 0x20) {
    out += c;
    return;
  }
  constexpr char kHex[] = "0123456789abcdef";
  out += "\\u00";
  out += kHex[c >> 4];
  out += kHex[c & 15];
}

template <class Float>
std::string shortest(Float value) {
  if (!std::isfinite(value)) return "null";
  char digits[40];
  const auto result = std::to_chars(digits, digits + sizeof digits, value);
  std::string text(digits, result.ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

}  // namespace

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    out += length == 0 ? kReplacement : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

JsonLine& JsonLine::key(std::string_view name) {
  value(name);
  text_ += ':';
  needs_comma_ = false;
  return *this;
}

JsonLine& JsonLine::value(float value) {
  return raw(shortest(value));
}
JsonLine& JsonLine::value(double value) {
  return raw(shortest(value));
}

JsonLine& JsonLine::value(std::string_view text) {
  separate();
  text_ += '"';
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) {
      text_ += kReplacement;
    } else if (length == 1) {
      append_escaped(text_, text.front());
    } else {
      text_ += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  text_ += '"';
  return *this;
}

JsonLine& JsonLine::verbatim(std::string_view json) {
  separate();
  // Inside strings JSON has no raw line breaks, so what is replaced here is white space between tokens.
  for (const char c : json) text_ += c == '\n' || c == '\r' ? ' ' : c;
  return *this;
}

std::string JsonLine::take_line() {
  std::string line = std::move(text_) + '\n';
  text_.clear();
  needs_comma_ = false;
  return line;
}

JsonLine& JsonLine::raw(std::string_view json) {
  separate();
  text_ += json;
  return *this;
}

JsonLine& JsonLine::open(char bracket) {
  separate();
  text_ += bracket;
  needs_comma_ = false;
  return *this;
}

JsonLine& JsonLine::close(char bracket) {
  text_ += bracket;
  needs_comma_ = true;
  return *this;
}

void JsonLine::separate() {
  if (needs_comma_) text_ += ',';
  needs_comma_ = true;
}

}  // namespace nemo
