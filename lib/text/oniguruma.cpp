// Oniguruma's (Ruby's) pattern dialect, written anew for PCRE2. See regex.h.
#include <cctype>

#include "kernels/error.h"
#include "lib/text/regex.h"

namespace nemo {
namespace {

// PCRE2's \s has U+180E and its \w lacks marks and connectors, so both are spelled out. Each ends so that a
// hyphen behind it is itself, as it was behind the escape.
constexpr std::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}\\x{2000}-\\x{"
    "200a}";
// The Latin-1 superscripts and fractions are words to Oniguruma's table for that block only.
constexpr std::string_view kWords = "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    if (in_class_) refuse("a character class without its end");
    return std::move(out_);
  }

 private:
  char peek(size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

  void copy(size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }

  void replace(size_t count, std::string_view text) {
    out_ += text;
    at_ += count;
  }

  [[noreturn]] void refuse(const std::string& construct) const {
    throw Error(where_, "the pattern has " + construct + ", which is not supported",
                "use one of the published Nemotron or Llama split patterns");
  }

  void open_class() {
    in_class_ = true;
    copy(peek(1) == '^' ? 2 : 1);
    if (peek(0) == ']') refuse("an empty character class");
  }

  void class_character(char c) {
    if (c == '[') refuse("a set inside a character class");
    if (c == '&' && peek(1) == '&') refuse("an intersection (&&) in a character class");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void escape() {
    const char c = peek(1);
    const auto set = [&](std::string_view members, bool negated) {
      if (in_class_) return replace(2, members);
      out_ += negated ? "[^" : "[";
      replace(2, members);
      out_ += ']';
    };
    switch (c) {
      case 's':
        return set(kSpaces, false);
      case 'S':
        return in_class_ ? replace(2, "\\P{White_Space}") : set(kSpaces, true);
      case 'd':
        return replace(2, "\\p{Nd}");
      case 'D':
        return replace(2, "\\P{Nd}");
      case 'w':
        return set(kWords, false);
      case 'W':
        return in_class_ ? refuse("\\W in a character class") : set(kWords, true);
      case 'v':
        return replace(2, "\\x{b}");
      case 'p':
      case 'P':
        return property();
      case 'x':
      case 'u':
        return code_point(c);
      case 'r':
      case 'n':
      case 't':
      case 'f':
        return copy(2);
      case 'A':
      case 'z':
        if (!in_class_) return copy(2);
        break;
      default:
        if (std::ispunct(static_cast<unsigned char>(c))) return copy(2);
    }
    refuse(c == '\0' ? "a backslash at its end" : std::string("the escape \\") + c);
  }

  void property() {
    const size_t end = in_.find('}', at_);
    if (peek(2) != '{' || end == std::string_view::npos) refuse("a property without braces");
    copy(end + 1 - at_);
  }

  void code_point(char kind) {
    size_t begin = at_ + 2;
    size_t end = begin;
    const bool braced = kind == 'x' && peek(2) == '{';
    if (braced) end = ++begin;
    const size_t max_digits = braced ? 8 : kind == 'u' ? 4 : 2;
    while (end < in_.size() && end - begin < max_digits &&
           std::isxdigit(static_cast<unsigned char>(in_[end])))
      ++end;
    const bool closed = !braced || (end < in_.size() && in_[end] == '}');
    if (end == begin || !closed || (kind == 'u' && end - begin != 4)) refuse("a broken code point escape");
    if (!braced && kind == 'x' && end - begin == 2 && in_[begin] >= '8')
      refuse("a byte that is no character, \\x80 to \\xff");
    out_.append("\\x{").append(in_.substr(begin, end - begin)).append("}");
    at_ = end + (braced ? 1 : 0);
  }

  void group() {
    if (peek(1) == '*') refuse("a verb (*...)");
    if (peek(1) != '?') return copy(1);
    const std::string_view rest = in_.substr(at_ + 2);
    for (const std::string_view kind : {":", "=", "!", ">", "<=", "<!", "i:", "-i:"}) {
      if (rest.starts_with(kind)) return copy(2 + kind.size());
    }
    // In the middle of a pattern it reaches further in Oniguruma than in PCRE2.
    if (rest.starts_with("i)") && at_ == 0) return copy(4);
    refuse("the group \"" + std::string(in_.substr(at_, 5)) + "\"");
  }

  void interval() {
    const size_t end = in_.find('}', at_);
    const std::string_view inside = end == std::string_view::npos ? "" : in_.substr(at_ + 1, end - at_ - 1);
    const bool is_interval =
        !inside.empty() && inside.find_first_not_of("0123456789,") == std::string_view::npos;
    if (!is_interval) return replace(1, "\\{");
    const char behind = end + 1 < in_.size() ? in_[end + 1] : '\0';
    if (behind == '+') refuse("an interval followed by +");
    if (behind == '?' && inside.find(',') == std::string_view::npos)
      refuse("an exact interval followed by ?");
    out_.append(inside.front() == ',' ? "{0" : "{").append(inside).append("}");
    at_ = end + 1;
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace nemo
