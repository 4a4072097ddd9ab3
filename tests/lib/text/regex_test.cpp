// The dialects: what is translated, and what is refused rather than matched differently. That the published
// patterns match as they should is shown by the golden files.
#include "lib/text/regex.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "lib/text/text_error.h"

namespace nemo {
namespace {

std::string first_match(const std::string& pattern, const std::string& text) {
  const Regex regex(translate_oniguruma(pattern, "test"), "test");
  RegexScratch scratch;
  const auto match = regex.find(text, 0, scratch);
  return match ? text.substr(match->begin, match->end - match->begin) : "(none)";
}

struct Match {
  const char* pattern;
  const char* text;
  const char* expected;
};

TEST(Regex, MatchesAsOnigurumaDoes) {
  const Match kMatches[] = {
      {R"(\s+)", "a\xC2\x85\xE3\x80\x80z", "\xC2\x85\xE3\x80\x80"},  // U+0085, U+3000
      {R"(\s)", "\xE1\xA0\x8E", "(none)"},                           // U+180E, a space to PCRE2 only
      {R"([^\s]+)", " \xE1\xA0\x8E ", "\xE1\xA0\x8E"},
      {R"(\S+)", " \xE1\xA0\x8E ", "\xE1\xA0\x8E"},
      {R"([\S]+)", " ab ", "ab"},
      {R"(\w+)", "-a\xCC\x81_\xC2\xB2-", "a\xCC\x81_\xC2\xB2"},  // marks, connectors and ² are words
      {R"(\W+)", "a+-b", "+-"},
      {R"(\d+)", "a\xD9\xA1\x32", "\xD9\xA1\x32"},  // any decimal digit
      {R"([\s-z]+)", "a- z", "- z"},                // the hyphen is itself
      {R"(a{,2}b)", "aaab", "aab"},
      {R"(x{y)", "x{y", "x{y"},
      {R"(^b$)", "a\nb\nc", "b"},  // lines, as in Ruby
      {R"(a.c)", "a\nc", "(none)"},
      {R"((?i:k)z)", "\xE2\x84\xAAz", "\xE2\x84\xAAz"},  // the Kelvin sign
      {R"((?i)AB)", "xab", "ab"},
      {R"(\x{e9}|\u00e8|\x41)", "\xC3\xA8", "\xC3\xA8"},
      {R"(\v)", "\n\x0B", "\x0B"},
      {R"([\]\-]+)", "a]-b", "]-"},
  };
  for (const Match& match : kMatches)
    EXPECT_EQ(first_match(match.pattern, match.text), match.expected) << match.pattern;
}

TEST(Regex, WhatDiffersIsRefused) {
  for (const char* pattern :
       {R"(\h)",         R"(\b)",        R"(\1)",    R"(\R)",          R"([a[b]])", R"([[:alpha:]])",
        R"([a&&b])",     R"([\W])",      R"(a{2}+)", R"(a{2}?)",       R"(a(?i)b)", R"((?m:a))",
        R"((?<name>a))", R"((*ACCEPT))", R"([])",    R"([a)",          R"(a\)",     R"(\pL)",
        R"(\xE9)",       R"(\u12)",      R"((a)",    R"(\p{Nonsense})"}) {
    try {
      first_match(pattern, "a");
      ADD_FAILURE() << pattern;
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("test: the pattern")) << error.what();
    }
  }
}

TEST(Regex, RunawayMatchesEnd) {
  const Regex regex("(?:x+x+)+[yz]", "test");
  RegexScratch scratch;
  EXPECT_THROW(regex.find(std::string(4000, 'x'), 0, scratch), TextError);
  EXPECT_TRUE(regex.find("xxy", 0, scratch));  // the scratch is still good
}

}  // namespace
}  // namespace nemo
