// What the golden files do not show: every merge order, hostile files, hostile texts, several threads.
#include "lib/text/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>
#include <thread>

#include "kernels/error.h"
#include "lib/text/text_error.h"
#include "lib/text/utf8.h"
#include "tests/lib/text/temporary_folder.h"
#include "tests/lib/text/toy_tokenizer.h"

namespace nemo {
namespace {

using Ids = std::vector<int32_t>;

// The definition of BPE, as slow as it reads: the pair of lowest rank is merged, the leftmost of equals,
// until none is left.
Ids merged_naively(const std::string& word, const Merges& merges) {
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  std::map<std::string, int32_t> ids;
  for (int byte = 0; byte < 256; ++byte) ids[std::string(1, static_cast<char>(byte))] = byte;
  for (const auto& [left, right] : merges) ids.emplace(left + right, static_cast<int32_t>(ids.size()));
  for (;;) {
    size_t best_rank = merges.size();
    size_t best = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank].first != parts[i] || merges[rank].second != parts[i + 1]) continue;
        best_rank = rank;
        best = i;
      }
    }
    if (best_rank == merges.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  Ids result;
  for (const std::string& part : parts) result.push_back(ids.at(part));
  return result;
}

Merges random_merges(std::mt19937& rng, size_t count) {
  std::vector<std::string> tokens = {"a", "b", "c"};
  std::map<std::string, bool> known;
  Merges merges;
  while (merges.size() < count) {
    const std::string left = tokens[rng() % tokens.size()];
    const std::string right = tokens[rng() % tokens.size()];
    if (left.size() + right.size() > 12 || !known.emplace(left + right, true).second) continue;
    merges.emplace_back(left, right);
    tokens.push_back(left + right);
  }
  return merges;
}

std::string random_word(std::mt19937& rng, size_t size) {
  std::string word;
  for (size_t i = 0; i < size; ++i) word += static_cast<char>('a' + rng() % 3);
  return word;
}

// Both ways of merging (short words and long ones) and the cache (each word twice).
TEST(Tokenizer, MergesInTheOrderOfRanks) {
  std::mt19937 rng(1);
  for (int round = 0; round < 20; ++round) {
    const Merges merges = random_merges(rng, 5 + rng() % 40);
    const Tokenizer tokenizer = tokenizer_of(toy_json(merges));
    for (const size_t size : {1, 2, 3, 5, 17, 47, 48, 49, 50, 200}) {
      const std::string word = random_word(rng, size);
      const Ids expected = merged_naively(word, merges);
      EXPECT_EQ(tokenizer.encode(word, AddSpecialTokens::kNo), expected) << word;
      EXPECT_EQ(tokenizer.encode(word, AddSpecialTokens::kNo), expected) << word;
    }
  }
}

std::string random_text(std::mt19937& rng, size_t num_characters) {
  std::string text;
  while (num_characters-- > 0) {
    static constexpr uint32_t kLimits[] = {0x80, 0x80, 0x800, 0xD800, 0x110000};
    uint32_t character = rng() % kLimits[rng() % 5];
    if (character >= 0xD800 && character < 0xE000) character = ' ';
    append_utf8(text, character);
  }
  return text;
}

TEST(Tokenizer, DecodingGivesTheTextBack) {
  const Tokenizer tokenizer =
      tokenizer_of(toy_json({{"t", "h"}, {"th", "e"}, {" ", "the"}, {"\xC3", "\xA9"}}, {"<s>", "</s>"}));
  std::mt19937 rng(2);
  for (int round = 0; round < 300; ++round) {
    std::string text = random_text(rng, rng() % 60);
    if (round % 3 == 0) text += " the th\xC3\xA9 </s> the<s>" + text;
    const Ids ids = tokenizer.encode(text, AddSpecialTokens::kYes);
    EXPECT_EQ(tokenizer.decode(ids, SkipSpecialTokens::kNo), text);
    std::string bytes;
    for (const int32_t id : ids) bytes += tokenizer.token_bytes(id);
    EXPECT_EQ(bytes, text);
  }
}

TEST(Tokenizer, ThreadsGetTheSameIds) {
  std::mt19937 rng(3);
  const Tokenizer tokenizer = tokenizer_of(toy_json(random_merges(rng, 30)));
  std::string text;
  for (int i = 0; i < 2000; ++i) text += random_word(rng, 1 + rng() % 12) + " ";
  const Ids expected = tokenizer.encode(text, AddSpecialTokens::kNo);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) count += tokenizer.encode(text, AddSpecialTokens::kNo) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Tokenizer, AddedTokensAreLeftmostLongestAndHonourTheirFlags) {
  nlohmann::json json = toy_json({}, {"<a>", "<a>b", "<w>", "<l>", "<r>", "<n"});
  auto& added = json["added_tokens"];
  added[2]["single_word"] = true;
  added[3]["lstrip"] = true;
  added[4]["rstrip"] = true;
  added[5]["normalized"] = true;  // looked for in what the others leave
  const Tokenizer tokenizer = tokenizer_of(json);
  const auto encode = [&](const std::string& text) { return tokenizer.encode(text, AddSpecialTokens::kNo); };
  EXPECT_EQ(encode("<a><a>bc"), (Ids{256, 257, 'c'}));
  EXPECT_EQ(encode("<<a>"), (Ids{'<', 256}));
  EXPECT_EQ(encode("<w>"), Ids{258});
  EXPECT_EQ(encode("+<w>+"), (Ids{'+', 258, '+'}));
  EXPECT_EQ(encode("x<w>"), (Ids{'x', '<', 'w', '>'}));
  EXPECT_EQ(encode("<w>\xC3\xA9"), (Ids{'<', 'w', '>', 0xC3, 0xA9}));
  EXPECT_EQ(encode("x \xE3\x80\x80<l> y"), (Ids{'x', 259, ' ', 'y'}));
  EXPECT_EQ(encode("x <r>\t\n y"), (Ids{'x', ' ', 260, 'y'}));
  EXPECT_EQ(encode("<n<a>"), (Ids{261, 256}));
  EXPECT_EQ(tokenizer.decode(encode("x <a>y"), SkipSpecialTokens::kYes), "x y");
}

TEST(Tokenizer, TemplatePutsTokensAround) {
  nlohmann::json json = toy_json({}, {"<s>", "</s>"});
  json["post_processor"] = nlohmann::json::parse(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
      {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
     "special_tokens": {"<s>": {"ids": [256]}, "</s>": {"ids": [257]}}}]})");
  const Tokenizer tokenizer = tokenizer_of(json);
  EXPECT_EQ(tokenizer.encode("a", AddSpecialTokens::kYes), (Ids{256, 'a', 257}));
  EXPECT_EQ(tokenizer.encode("a", AddSpecialTokens::kNo), Ids{'a'});
  EXPECT_EQ(tokenizer.encode("", AddSpecialTokens::kYes), (Ids{256, 257}));
}

TEST(Tokenizer, UnknownBytesAreTheUnknownTokenOrAnError) {
  nlohmann::json json = toy_json({});
  json["model"]["vocab"].erase(spelling_of("x"));
  json["model"]["vocab"].erase(spelling_of("y"));
  const auto encode = [&](const std::string& text) {
    return tokenizer_of(json).encode(text, AddSpecialTokens::kNo);
  };
  try {
    encode("axb");
    ADD_FAILURE() << "no error";
  } catch (const TextError& error) {
    EXPECT_EQ(error.code(), "unknown_token");
  }
  json["model"]["unk_token"] = "?";
  EXPECT_EQ(encode("axyb"), (Ids{'a', '?', '?', 'b'}));
  json["model"]["fuse_unk"] = true;
  EXPECT_EQ(encode("axyb"), (Ids{'a', '?', 'b'}));
}

TEST(Tokenizer, QueriesAnswer) {
  const Tokenizer tokenizer = tokenizer_of(toy_json({{"a", "b"}}, {"<s>"}));
  EXPECT_EQ(tokenizer.vocab_size(), 258);
  EXPECT_EQ(tokenizer.token_to_id("ab"), 256);
  EXPECT_EQ(tokenizer.token_to_id("<s>"), 257);
  EXPECT_EQ(tokenizer.token_to_id("nothing"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(257));
  EXPECT_FALSE(tokenizer.is_special(256));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(1 << 30));
  EXPECT_EQ(Ids(tokenizer.special_ids().begin(), tokenizer.special_ids().end()), Ids{257});
  EXPECT_EQ(tokenizer.token_bytes(-1), "");
  EXPECT_EQ(tokenizer.token_bytes(258), "");
  EXPECT_EQ(tokenizer.decode(Ids{'a', 999999, -5, 'b'}, SkipSpecialTokens::kYes), "ab");
}

TEST(Tokenizer, InvalidUtf8NamesTheByte) {
  const Tokenizer tokenizer = tokenizer_of(toy_json({}));
  try {
    tokenizer.encode("ab\xFFz", AddSpecialTokens::kYes);
    ADD_FAILURE() << "no error";
  } catch (const TextError& error) {
    EXPECT_EQ(error.code(), "invalid_utf8");
    EXPECT_NE(std::string(error.what()).find("byte 2"), std::string::npos) << error.what();
  }
}

// A quadratic encoder would take minutes for each.
TEST(Tokenizer, LongRunsAreFast) {
  Merges doubling;
  for (std::string token = "a"; token.size() < 64; token += token) doubling.emplace_back(token, token);
  doubling.emplace_back("b", "c");
  const Tokenizer tokenizer = tokenizer_of(toy_json(doubling));
  std::string mixed;
  for (int i = 0; i < 500'000; ++i) mixed += "bca";
  for (const std::string& text :
       {std::string(1 << 20, 'a'), std::string(1 << 20, ' '), std::string(1 << 20, '\n'), mixed}) {
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = tokenizer.encode(text, AddSpecialTokens::kNo);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    EXPECT_EQ(tokenizer.decode(ids, SkipSpecialTokens::kNo), text);
  }
  EXPECT_EQ(tokenizer.encode(std::string(1 << 20, 'a'), AddSpecialTokens::kNo).size(), (1U << 20) / 64);
}

TEST(Tokenizer, APatternThatExplodesIsATextError) {
  nlohmann::json json = toy_json({});
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "(?:a+)+[bc]"}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  const Tokenizer tokenizer = tokenizer_of(json);
  EXPECT_EQ(tokenizer.encode("aab", AddSpecialTokens::kNo), (Ids{'a', 'a', 'b'}));
  EXPECT_THROW(tokenizer.encode(std::string(5000, 'a'), AddSpecialTokens::kNo), TextError);
}

struct Hostile {
  const char* name;
  void (*change)(nlohmann::json&);
  const char* expected;  // in the error's text
};

const Hostile kHostile[] = {
    {"NoModel", [](nlohmann::json& j) { j.erase("model"); }, "has no \"model\""},
    {"ModelIsList", [](nlohmann::json& j) { j["model"] = nlohmann::json::array(); },
     "model: must be an object"},
    {"OtherModel", [](nlohmann::json& j) { j["model"]["type"] = "Unigram"; },
     "tokenizer model Unigram is not supported"},
    {"ByteFallback", [](nlohmann::json& j) { j["model"]["byte_fallback"] = true; },
     "byte_fallback is not supported"},
    {"Dropout", [](nlohmann::json& j) { j["model"]["dropout"] = 0.1; }, "dropout is not supported"},
    {"Suffix", [](nlohmann::json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix"},
    {"VocabIsList",
     [](nlohmann::json& j) {
       j["model"]["vocab"] = {1, 2};
     },
     "model.vocab: must be an object"},
    {"IdIsText", [](nlohmann::json& j) { j["model"]["vocab"]["zz"] = "7"; },
     "model.vocab.zz: must be an integer"},
    {"IdIsNegative", [](nlohmann::json& j) { j["model"]["vocab"]["zz"] = -1; },
     "must be in [0, 4194303], not -1"},
    {"IdIsGiant", [](nlohmann::json& j) { j["model"]["vocab"]["zz"] = 4000000000000; },
     "model.vocab.zz: must be in"},
    {"IdIsBeyondInt64", [](nlohmann::json& j) { j["model"]["vocab"]["zz"] = UINT64_MAX; },
     "not 18446744073709551615"},
    {"IdIsFraction", [](nlohmann::json& j) { j["model"]["vocab"]["zz"] = 1.5; }, "must be an integer"},
    {"IdTwice", [](nlohmann::json& j) { j["model"]["vocab"]["zz"] = 5; }, "is given twice"},
    {"NoMerges", [](nlohmann::json& j) { j["model"].erase("merges"); }, "has no \"merges\""},
    {"MergeIsNumber", [](nlohmann::json& j) { j["model"]["merges"][0] = 5; },
     "model.merges[0]: must be a string"},
    {"MergeOfThree",
     [](nlohmann::json& j) {
       j["model"]["merges"][0] = {"a", "b", "c"};
     },
     "must be two tokens"},
    {"MergeTextOfThree", [](nlohmann::json& j) { j["model"]["merges"][0] = "a b c"; }, "must be two tokens"},
    {"MergeOfUnknown",
     [](nlohmann::json& j) {
       j["model"]["merges"][0] = {"a", "zz"};
     },
     "\"zz\", which is not in"},
    {"MergeToUnknown",
     [](nlohmann::json& j) {
       j["model"]["merges"][0] = {"b", "a"};
     },
     "\"ba\", which is not in"},
    {"UnknownUnk", [](nlohmann::json& j) { j["model"]["unk_token"] = "<unk>"; },
     "model.unk_token: \"<unk>\""},
    {"AddedIsObject", [](nlohmann::json& j) { j["added_tokens"] = nlohmann::json::object(); },
     "must be an array"},
    {"AddedIdGiant", [](nlohmann::json& j) { j["added_tokens"][0]["id"] = 1 << 30; },
     "added_tokens[0].id: must be in"},
    {"AddedIdTaken", [](nlohmann::json& j) { j["added_tokens"][0]["id"] = 3; }, "is another token's"},
    {"AddedIdOther", [](nlohmann::json& j) { j["added_tokens"][0]["content"] = "a"; },
     "has id 257 here and 97"},
    {"AddedTwice", [](nlohmann::json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); },
     "is given twice"},
    {"AddedFlagIsText", [](nlohmann::json& j) { j["added_tokens"][0]["lstrip"] = "no"; },
     "lstrip: must be true or false"},
    {"Normalizer",
     [](nlohmann::json& j) {
       j["normalizer"] = {{"type", "NFKC"}};
     },
     "normalizer NFKC is not supported"},
    {"NoPreTokenizer", [](nlohmann::json& j) { j["pre_tokenizer"] = nullptr; }, "without pre-tokenizer"},
    {"OtherPreTokenizer",
     [](nlohmann::json& j) {
       j["pre_tokenizer"] = {{"type", "Metaspace"}};
     },
     "pre-tokenizer Metaspace"},
    {"OtherDecoder",
     [](nlohmann::json& j) {
       j["decoder"] = {{"type", "WordPiece"}};
     },
     "decoder WordPiece"},
    {"NoDecoder", [](nlohmann::json& j) { j.erase("decoder"); }, "without decoder"},
    {"OtherPostProcessor",
     [](nlohmann::json& j) {
       j["post_processor"] = {{"type", "BertProcessing"}};
     },
     "BertProcessing"},
};

class HostileTokenizer : public testing::TestWithParam<Hostile> {};

TEST_P(HostileTokenizer, IsRefusedByName) {
  nlohmann::json json = toy_json({{"a", "b"}}, {"<s>"});
  GetParam().change(json);
  try {
    tokenizer_of(json);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_TRUE(what.starts_with("toy.json")) << what;
    EXPECT_NE(what.find(GetParam().expected), std::string::npos) << what;
    EXPECT_TRUE(what.ends_with(")")) << "no remedy: " << what;
  }
}

INSTANTIATE_TEST_SUITE_P(All, HostileTokenizer, testing::ValuesIn(kHostile),
                         [](const auto& test) { return test.param.name; });

TEST(Tokenizer, DamagedFilesAreErrors) {
  const std::string whole = toy_json({{"a", "b"}}, {"<s>"}).dump();
  for (size_t size = 0; size < whole.size(); size += 97) {
    EXPECT_THROW(Tokenizer::parse(std::string_view(whole).substr(0, size), "toy.json"), Error);
  }
  const std::string deep = std::string(1 << 20, '[') + std::string(1 << 20, ']');
  EXPECT_THROW(Tokenizer::parse(deep, "toy.json"), Error);
  EXPECT_THROW(Tokenizer::load("/nowhere/at/all"), Error);
}

TEST(Tokenizer, LoadsFromAFolderOrAFile) {
  const TemporaryFolder folder;
  const std::string file = folder.write("tokenizer.json", toy_json({}, {"<s>"}).dump());
  EXPECT_EQ(Tokenizer::load(folder.path().string()).vocab_size(), 257);
  EXPECT_EQ(Tokenizer::load(file).vocab_size(), 257);
}

}  // namespace
}  // namespace nemo
