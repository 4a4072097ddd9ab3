// PostProcessor: the tokens that a tokenizer puts around a text, such as a BOS.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/text/json_place.h"
#include "lib/text/token_table.h"

namespace nemo {

/// What `post_processor` of tokenizer.json comes to for one text: ids before it and ids behind it.
struct PostProcessor {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;

  /// TemplateProcessing (its `single` form), ByteLevel (which concerns offsets only), a Sequence of them, or
  /// null. Throws Error for others, naming them, and for ids that `tokens` has not.
  static PostProcessor parse(const JsonPlace& post_processor, const TokenTable& tokens);
};

}  // namespace nemo
