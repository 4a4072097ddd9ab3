// Encoding and decoding against ids frozen from the reference implementation; see tests/golden/README.md.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/text/detokenizer.h"
#include "lib/text/line_reader.h"
#include "lib/text/tokenizer.h"

namespace nemo {
namespace {

const std::string kGolden = NEMO_SOURCE_DIR "/tests/golden/tokenizer/";

std::vector<nlohmann::json> json_lines(const std::string& file) {
  FileLineReader reader({kGolden + file});
  std::vector<nlohmann::json> lines;
  while (const auto line = reader.next()) lines.push_back(nlohmann::json::parse(line->text));
  return lines;
}

class TokenizerGolden : public testing::TestWithParam<std::string> {
 protected:
  Tokenizer tokenizer_ =
      Tokenizer::load(GetParam() == "checkpoint" ? NEMO_SOURCE_DIR "/configs/checkpoints/kjv-wordnet-7m"
                                                 : kGolden + GetParam() + ".json");
};

TEST_P(TokenizerGolden, EveryStringHasTheReferencesIds) {
  const auto strings = json_lines("strings.jsonl.gz");
  const auto ids = json_lines(GetParam() + ".ids.jsonl.gz");
  ASSERT_GT(strings.size(), 1000U);
  ASSERT_EQ(strings.size(), ids.size());
  size_t num_wrong = 0;
  for (size_t i = 0; i < strings.size(); ++i) {
    const auto got = tokenizer_.encode(strings[i].get<std::string>(), AddSpecialTokens::kYes);
    if (got == ids[i].get<std::vector<int32_t>>()) continue;
    if (++num_wrong <= 5)
      ADD_FAILURE() << "string " << i << ": " << strings[i].dump() << "\n  " << nlohmann::json(got);
  }
  EXPECT_EQ(num_wrong, 0U);
}

TEST_P(TokenizerGolden, EveryPieceDecodesToTheReferencesText) {
  const auto pieces = json_lines(GetParam() + ".decoded.jsonl.gz");
  ASSERT_GT(pieces.size(), 100U);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto ids = pieces[i].at("ids").get<std::vector<int32_t>>();
    const auto skip =
        pieces[i].at("skip_special_tokens").get<bool>() ? SkipSpecialTokens::kYes : SkipSpecialTokens::kNo;
    const auto text = pieces[i].at("text").get<std::string>();
    EXPECT_EQ(tokenizer_.decode(ids, skip), text) << "piece " << i;
    StreamDetokenizer stream(tokenizer_, skip);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.flush(), text) << "piece " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, TokenizerGolden, testing::Values("checkpoint", "whole_words", "threes"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace nemo
