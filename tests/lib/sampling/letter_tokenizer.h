// A tokenizer so small that a test can be read without a table: a letter a token.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lib/text/tokenizer.h"

namespace nemo::testing {

/// Byte-level BPE without merges: "a".."z" are 0..25, kEuro and the two ids after it are the three bytes of
/// the euro sign, kEnd is a special token.
constexpr int32_t kEuro = 26;
constexpr int32_t kEnd = 29;
constexpr int32_t kNumTokens = 30;

inline const Tokenizer& letter_tokenizer() {
  static const Tokenizer instance = [] {
    nlohmann::json vocabulary;
    for (int i = 0; i < 26; ++i) vocabulary[std::string(1, static_cast<char>('a' + i))] = i;
    const char* const euro_bytes[] = {"\u00e2", "\u0124",
                                      "\u00ac"};  // how byte-level BPE spells 0xe2 0x82 0xac
    for (int i = 0; i < 3; ++i) vocabulary[euro_bytes[i]] = kEuro + i;
    const nlohmann::json end = {{"id", kEnd},      {"content", "<end>"}, {"single_word", false},
                                {"lstrip", false}, {"rstrip", false},    {"normalized", false},
                                {"special", true}};
    const nlohmann::json split = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}, {"trim_offsets", true}};
    const nlohmann::json model = {
        {"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}};
    const nlohmann::json file = {{"version", "1.0"},
                                 {"added_tokens", nlohmann::json::array({end})},
                                 {"pre_tokenizer", split},
                                 {"decoder", {{"type", "ByteLevel"}}},
                                 {"model", model}};
    return Tokenizer::parse(file.dump(), "letter tokenizer");
  }();
  return instance;
}

}  // namespace nemo::testing
