#include "lib/output/json_line.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace nemo {
namespace {

template <class T>
std::string line_of(const T& value) {
  return JsonLine().value(value).take_line();
}

TEST(JsonLine, CommasAndNesting) {
  JsonLine line;
  line.begin_object().key("a").begin_array().value(int64_t{1}).begin_array().end_array().null().end_array();
  line.key("b")
      .begin_object()
      .end_object()
      .key("c")
      .value(true)
      .key("d")
      .verbatim("{\"x\":\r\n1}")
      .end_object();
  EXPECT_EQ(line.take_line(), "{\"a\":[1,[],null],\"b\":{},\"c\":true,\"d\":{\"x\":  1}}\n");
  EXPECT_EQ(line.begin_array().end_array().take_line(), "[]\n");
}

TEST(JsonLine, EveryControlCharacterIsEscaped) {
  std::string text;
  for (int c = 0; c < 0x80; ++c) text += static_cast<char>(c);
  const std::string line = line_of(text);
  EXPECT_EQ(nlohmann::json::parse(line), text);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
}

TEST(JsonLine, FloatsAreShortestAndAlwaysFloats) {
  EXPECT_EQ(line_of(0.1f), "0.1\n");
  EXPECT_EQ(line_of(-0.0f), "-0.0\n");
  EXPECT_EQ(line_of(3.0f), "3.0\n");
  EXPECT_EQ(line_of(1e20f), "1e+20\n");
  EXPECT_EQ(line_of(0.1), "0.1\n");
  EXPECT_EQ(line_of(std::numeric_limits<float>::quiet_NaN()), "null\n");
  EXPECT_EQ(line_of(-std::numeric_limits<double>::infinity()), "null\n");
}

TEST(JsonLine, EveryFloatComesBack) {
  std::mt19937 random(3);
  for (int i = 0; i < 100000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isfinite(value)) continue;
    const float back = std::strtof(line_of(value).c_str(), nullptr);
    ASSERT_EQ(std::bit_cast<uint32_t>(back), std::bit_cast<uint32_t>(value));
  }
}

// The library's strict decoder is the judge of what is valid: whatever the bytes, the line parses, and text
// that is valid is not changed.
TEST(JsonLine, AnyBytesGiveValidUtf8) {
  std::mt19937 random(4);
  const std::string pieces[] = {"a",        "\xC3\xA9",     "\xE4\xB8\xAD", "\xF0\x9F\x98\x80",
                                "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                "\xF5",     "\xFF",         "\x80",         "\xE4\xB8"};
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (size_t n = random() % 6; n > 0; --n) text += pieces[random() % std::size(pieces)];
    const auto json = nlohmann::json::parse(line_of(text));
    ASSERT_EQ(json, to_valid_utf8(text));
    ASSERT_TRUE(json == text || !nlohmann::json::accept("\"" + text + "\""));
  }
  EXPECT_EQ(to_valid_utf8("a\xE4\xB8z"), "a\uFFFD\uFFFDz");
}

}  // namespace
}  // namespace nemo
