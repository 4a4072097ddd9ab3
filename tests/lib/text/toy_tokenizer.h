// A tokenizer.json small enough to know by heart: ids 0..255 are the bytes, then come the merges in their
// order, then the added tokens.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "lib/text/byte_alphabet.h"
#include "lib/text/tokenizer.h"

namespace nemo {

using Merges = std::vector<std::pair<std::string, std::string>>;

inline std::string spelling_of(const std::string& bytes) {
  std::string spelling;
  for (const char c : bytes) spelling += spelling_of_byte(static_cast<unsigned char>(c));
  return spelling;
}

/// `merges` are given in bytes; `added` tokens are special.
inline nlohmann::json toy_json(const Merges& merges, const std::vector<std::string>& added = {}) {
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[spelling_of_byte(static_cast<unsigned char>(byte))] = byte;
  nlohmann::json merge_list = nlohmann::json::array();
  for (const auto& [left, right] : merges) {
    merge_list.push_back({spelling_of(left), spelling_of(right)});
    vocab.emplace(spelling_of(left + right), vocab.size());
  }
  nlohmann::json added_tokens = nlohmann::json::array();
  size_t id = vocab.size();
  for (const std::string& content : added) {
    added_tokens.push_back({{"id", id++}, {"content", content}, {"special", true}, {"normalized", false}});
  }
  const nlohmann::json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  return {{"added_tokens", added_tokens},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merge_list}}}};
}

inline Tokenizer tokenizer_of(const nlohmann::json& json) {
  return Tokenizer::parse(json.dump(), "toy.json");
}

}  // namespace nemo
