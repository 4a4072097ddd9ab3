// The byte-level alphabet: in tokenizer.json every byte is spelled as one printable character, so that tokens
// that are not whole characters can stand in a JSON text. "Ġ" is the space, for instance.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nemo {

/// The spelling of `byte`, as UTF-8.
std::string spelling_of_byte(unsigned char byte);

/// The bytes that `spelling` (well-formed UTF-8) stands for, or nothing if a character is not in the
/// alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

/// The bytes a token adds to a text: those its spelling stands for, or the spelling itself if it is not of
/// the alphabet (as for added tokens with spaces).
std::string token_bytes_of_spelling(std::string_view spelling);

}  // namespace nemo
