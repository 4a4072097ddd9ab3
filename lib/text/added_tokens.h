// AddedTokens: the tokens that are found in a text as they are, before any splitting: `<|im_start|>` and the
// like.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/json_place.h"
#include "lib/text/regex.h"

namespace nemo {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  ///< only where no word character adjoins
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space behind it
  bool normalized = false;   ///< is looked for after the others, in what they leave
};

/// A piece of a text: a token, or (`id` < 0) text that is still to be split.
struct TextPiece {
  std::string_view text;
  int32_t id = -1;
};

/// Immutable. Finds tokens from left to right, the longest where several begin, none inside another.
class AddedTokens {
 public:
  /// `added_tokens` of tokenizer.json. Throws Error for wrong types, an id of `max_ids` or more, and ids or
  /// contents given twice.
  static AddedTokens parse(const JsonPlace& added_tokens, int64_t max_ids);

  AddedTokens(AddedTokens&&) = default;
  AddedTokens(const AddedTokens&) = delete;  // the matchers point into `tokens_`
  AddedTokens& operator=(const AddedTokens&) = delete;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

  /// All of `text` in order, cut at the tokens.
  std::vector<TextPiece> split(std::string_view text, RegexScratch& scratch) const;

 private:
  // Contents in ascending order, which serve as a trie: the tokens that begin alike are neighbours.
  struct Matcher {
    std::vector<std::pair<std::string, const AddedToken*>> sorted;
    std::vector<bool> is_first_byte = std::vector<bool>(256, false);

    explicit Matcher(const std::vector<AddedToken>& tokens, bool normalized);
    const AddedToken* longest_at(std::string_view text) const;
  };

  explicit AddedTokens(std::vector<AddedToken> tokens);
  void split_by(const Matcher& matcher, std::string_view text, RegexScratch& scratch,
                std::vector<TextPiece>& out) const;
  bool adjoins_word(std::string_view before, std::string_view behind, RegexScratch& scratch) const;

  std::vector<AddedToken> tokens_;
  Matcher as_given_;
  Matcher normalized_;
  std::optional<Regex> word_character_;  // if a token is single_word
};

}  // namespace nemo
