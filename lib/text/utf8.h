// UTF-8 as the rest of lib/text needs it: checking what comes in, repairing what goes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nemo {

/// The byte offset of the first byte that is not part of well-formed UTF-8 (no surrogates, no overlong
/// forms), or nothing if all is well.
std::optional<size_t> find_invalid_utf8(std::string_view bytes);

struct CodePoint {
  uint32_t value = 0;
  size_t num_bytes = 0;
};

/// The code point at the start of `text`, which must be well formed and not empty.
CodePoint first_code_point(std::string_view text);

/// Appends `code_point` (a scalar value) as UTF-8.
void append_utf8(std::string& out, uint32_t code_point);

/// The Unicode property White_Space.
bool is_white_space(uint32_t code_point);

/// What is still open at the end of a text.
enum class OpenTail : uint8_t { kHold, kReplace };

/// Moves text from `bytes` to `out`: well-formed characters as they are, every maximal broken part as one
/// U+FFFD (the rule of the Unicode standard, chapter 3.9). An unfinished character at the end stays in
/// `bytes` under kHold and counts as broken under kReplace.
void move_utf8(std::string& bytes, std::string& out, OpenTail open_tail);

}  // namespace nemo
