// A tokenizer for models that have learned nothing: one token a byte. Internal to lib/weights/synthetic.
#pragma once

#include <nlohmann/json.hpp>

namespace nemo {

/// Ids 0 to 17 are the special tokens of Nemotron 3 under their ids, then follow the 256 bytes. Larger ids,
/// which a model with true vocabulary draws too, decode to nothing.
inline constexpr int64_t kByteTokenizerIds = 18 + 256;

/// tokenizer.json.
nlohmann::json byte_tokenizer();

/// tokenizer_config.json, with a chat template of turns between <|im_start|> and <|im_end|>.
nlohmann::json byte_tokenizer_config();

}  // namespace nemo
