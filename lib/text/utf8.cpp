#include "lib/text/utf8.h"

namespace nemo {
namespace {

struct Sequence {
  size_t num_bytes = 1;  // of the character, or of the maximal broken part
  bool valid = false;
  bool unfinished = false;  // not valid, but more bytes could make it so
};

struct Lead {
  size_t num_bytes;  // 0 = no character starts so
  unsigned low,
      high;  // bounds of the second byte: keep out overlong forms, surrogates and what is above U+10FFFF
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte < 0xF0) return {3, byte == 0xE0 ? 0xA0U : 0x80U, byte == 0xED ? 0x9FU : 0xBFU};
  if (byte < 0xF5) return {4, byte == 0xF0 ? 0x90U : 0x80U, byte == 0xF4 ? 0x8FU : 0xBFU};
  return {0, 0, 0};
}

Sequence sequence_at(std::string_view bytes) {
  const auto byte_at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const Lead lead = lead_of(byte_at(0));
  if (lead.num_bytes == 1) return {1, true, false};
  if (lead.num_bytes == 0) return {1, false, false};
  for (size_t i = 1; i < lead.num_bytes; ++i) {
    if (i == bytes.size()) return {i, false, true};
    const unsigned low = i == 1 ? lead.low : 0x80;
    const unsigned high = i == 1 ? lead.high : 0xBF;
    if (byte_at(i) < low || byte_at(i) > high) return {i, false, false};
  }
  return {lead.num_bytes, true, false};
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    if (static_cast<unsigned char>(bytes[i]) < 0x80) {
      ++i;
      continue;
    }
    const Sequence sequence = sequence_at(bytes.substr(i));
    if (!sequence.valid) return i;
    i += sequence.num_bytes;
  }
  return std::nullopt;
}

CodePoint first_code_point(std::string_view text) {
  const auto byte_at = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
  const uint32_t first = byte_at(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (byte_at(1) & 0x3F), 2};
  if (first < 0xF0) return {(first & 0x0F) << 12 | (byte_at(1) & 0x3F) << 6 | (byte_at(2) & 0x3F), 3};
  return {(first & 0x07) << 18 | (byte_at(1) & 0x3F) << 12 | (byte_at(2) & 0x3F) << 6 | (byte_at(3) & 0x3F),
          4};
}

void append_utf8(std::string& out, uint32_t code_point) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += static_cast<char>(0xC0 | code_point >> 6);
    out += tail(0);
  } else if (code_point < 0x10000) {
    out += static_cast<char>(0xE0 | code_point >> 12);
    out += tail(6);
    out += tail(0);
  } else {
    out += static_cast<char>(0xF0 | code_point >> 18);
    out += tail(12);
    out += tail(6);
    out += tail(0);
  }
}

bool is_white_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

void move_utf8(std::string& bytes, std::string& out, OpenTail open_tail) {
  const std::string_view all = bytes;
  size_t i = 0;
  while (i < all.size()) {
    const Sequence sequence = sequence_at(all.substr(i));
    if (sequence.valid) {
      out += all.substr(i, sequence.num_bytes);
    } else if (sequence.unfinished && open_tail == OpenTail::kHold) {
      break;
    } else {
      append_utf8(out, 0xFFFD);
    }
    i += sequence.num_bytes;
  }
  bytes.erase(0, i);
}

}  // namespace nemo
