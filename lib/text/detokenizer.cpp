#include "lib/text/detokenizer.h"

#include "lib/text/utf8.h"

namespace nemo {

std::string StreamDetokenizer::push(int32_t id) {
  std::string certain;
  if (skip_ == SkipSpecialTokens::kYes && tokenizer_->is_special(id)) return certain;
  held_ += tokenizer_->token_bytes(id);
  move_utf8(held_, certain, OpenTail::kHold);
  return certain;
}

std::string StreamDetokenizer::flush() {
  std::string rest;
  move_utf8(held_, rest, OpenTail::kReplace);
  return rest;
}

}  // namespace nemo
