#include "lib/text/utf8.h"

#include <gtest/gtest.h>

namespace nemo {
namespace {

TEST(Utf8, InvalidBytesAreFoundWhereTheyAre) {
  const struct {
    std::string bytes;
    std::optional<size_t> offset;
  } kCases[] = {
      {"", std::nullopt},
      {"a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82", std::nullopt},
      {"\xF4\x8F\xBF\xBF", std::nullopt},  // U+10FFFF
      {"ab\x80", 2},                       // a tail without a head
      {"\xC0\xAF", 0},
      {"\xE0\x9F\xBF", 0},
      {"\xF0\x8F\xBF\xBF", 0},  // overlong
      {"x\xED\xA0\x80", 1},     // a surrogate
      {"\xF4\x90\x80\x80", 0},
      {"\xF5\x80\x80\x80", 0},  // above U+10FFFF
      {"ab\xE2\x82", 2},
      {"ab\xE2\x82z", 2},  // unfinished
  };
  for (const auto& test : kCases) EXPECT_EQ(find_invalid_utf8(test.bytes), test.offset) << test.bytes;
}

std::string moved(std::string bytes, OpenTail open_tail) {
  std::string out;
  move_utf8(bytes, out, open_tail);
  return out + "|" + bytes;
}

TEST(Utf8, MaximalBrokenPartsBecomeOneReplacement) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(moved("a\xE2\x82z", OpenTail::kHold), "a" + r + "z|");
  EXPECT_EQ(moved("\xF0\x9F\x99", OpenTail::kHold), "|\xF0\x9F\x99");
  EXPECT_EQ(moved("\xF0\x9F\x99", OpenTail::kReplace), r + "|");
  EXPECT_EQ(moved("\xE0\x80\x80", OpenTail::kHold), r + r + r + "|");  // never the beginning of a character
  EXPECT_EQ(moved("\xED\xA0\x80", OpenTail::kHold), r + r + r + "|");
  EXPECT_EQ(moved("\xC3\xC3\xA9", OpenTail::kHold), r + "\xC3\xA9|");
}

TEST(Utf8, CodePointsGoThereAndBack) {
  for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 37) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(text, c);
    ASSERT_FALSE(find_invalid_utf8(text)) << c;
    ASSERT_EQ(first_code_point(text).value, c);
    ASSERT_EQ(first_code_point(text).num_bytes, text.size());
  }
}

}  // namespace
}  // namespace nemo
