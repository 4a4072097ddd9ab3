#include "lib/text/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "lib/text/utf8.h"

namespace nemo {
namespace {

// Printable Latin-1 bytes are spelled as themselves; the others, in ascending order, as the characters from
// U+0100 on.
bool is_its_own_spelling(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  std::array<uint16_t, 256> character_of_byte{};
  std::array<int16_t, 512> byte_of_character{};  // -1 = none; the last character is U+0143

  Alphabet() {
    byte_of_character.fill(-1);
    uint16_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const uint16_t character = is_its_own_spelling(byte) ? static_cast<uint16_t>(byte) : next++;
      character_of_byte[byte] = character;
      byte_of_character[character] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string spelling_of_byte(unsigned char byte) {
  std::string spelling;
  append_utf8(spelling, alphabet().character_of_byte[byte]);
  return spelling;
}

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  const auto& byte_of_character = alphabet().byte_of_character;
  std::string bytes;
  bytes.reserve(spelling.size());
  while (!spelling.empty()) {
    const CodePoint character = first_code_point(spelling);
    if (character.value >= byte_of_character.size() || byte_of_character[character.value] < 0)
      return std::nullopt;
    bytes += static_cast<char>(byte_of_character[character.value]);
    spelling.remove_prefix(character.num_bytes);
  }
  return bytes;
}

std::string token_bytes_of_spelling(std::string_view spelling) {
  return bytes_of_spelling(spelling).value_or(std::string(spelling));
}

}  // namespace nemo
