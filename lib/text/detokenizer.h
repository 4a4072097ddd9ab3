// StreamDetokenizer: token ids to text, one at a time, never splitting a character.
#pragma once

#include <cstdint>
#include <string>

#include "lib/text/tokenizer.h"

namespace nemo {

/// One continuation's state. Borrows the tokenizer, which must outlive it. The pieces it gives, put together,
/// are exactly Tokenizer::decode of all ids, however the ids fall.
class StreamDetokenizer {
 public:
  explicit StreamDetokenizer(const Tokenizer& tokenizer, SkipSpecialTokens skip = SkipSpecialTokens::kYes)
      : tokenizer_(&tokenizer), skip_(skip) {}

  /// The text that is certain now: an unfinished character is held back until its last byte.
  std::string push(int32_t id);

  /// The end: what was held back can no longer become a character and is given as U+FFFD. The object is as
  /// new.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  SkipSpecialTokens skip_;
  std::string held_;  // the bytes of an unfinished character
};

}  // namespace nemo
