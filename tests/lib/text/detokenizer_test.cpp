#include "lib/text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "lib/text/utf8.h"
#include "tests/lib/text/toy_tokenizer.h"

namespace nemo {
namespace {

// Ids are bytes here, so any broken text can be made.
std::vector<int32_t> random_bytes(std::mt19937& rng, size_t size) {
  static constexpr unsigned char kLikely[] = {'a',  0x80, 0xBF, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xED, 0xA0,
                                              0xF0, 0x9F, 0x99, 0x82, 0xF4, 0x90, 0xFF, 0xC0, 0xE0, 0x9F};
  std::vector<int32_t> ids;
  while (size-- > 0) ids.push_back(kLikely[rng() % sizeof kLikely]);
  return ids;
}

TEST(StreamDetokenizer, GivesWhatDecodingAllAtOnceGives) {
  const Tokenizer tokenizer = tokenizer_of(toy_json({{"\xE2", "\x82"}, {"\x99", "\x82"}}, {"<s>"}));
  std::mt19937 rng(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids = random_bytes(rng, rng() % 30);
    for (int32_t& id : ids) {
      if (rng() % 10 == 0)
        id = 256 + static_cast<int32_t>(rng() % 4);  // merges, <s> and an id without a token
    }
    for (const auto skip : {SkipSpecialTokens::kNo, SkipSpecialTokens::kYes}) {
      StreamDetokenizer stream(tokenizer, skip);
      std::string text;
      for (const int32_t id : ids) {
        const std::string piece = stream.push(id);
        EXPECT_FALSE(find_invalid_utf8(piece));
        text += piece;
      }
      text += stream.flush();
      EXPECT_EQ(text, tokenizer.decode(ids, skip));
      EXPECT_EQ(stream.flush(), "");
    }
  }
}

TEST(StreamDetokenizer, HoldsUnfinishedCharactersBackAndNoOthers) {
  const Tokenizer tokenizer = tokenizer_of(toy_json({}));
  StreamDetokenizer stream(tokenizer);
  EXPECT_EQ(stream.push('a'), "a");
  EXPECT_EQ(stream.push(0xF0), "");
  EXPECT_EQ(stream.push(0x9F), "");
  EXPECT_EQ(stream.push(0x99), "");
  EXPECT_EQ(stream.push(0x82), "\xF0\x9F\x99\x82");
  EXPECT_EQ(stream.push(0xE2), "");
  EXPECT_EQ(stream.push('b'),
            "\xEF\xBF\xBD"
            "b");                                // now it can no longer become one
  EXPECT_EQ(stream.push(0xFF), "\xEF\xBF\xBD");  // it never could
  EXPECT_EQ(stream.push(0xC3), "");
  EXPECT_EQ(stream.flush(), "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace nemo
