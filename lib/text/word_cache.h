// WordCache: the ids of words seen before. Text is mostly the same few thousand words.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace nemo {

/// A table of fixed size in which a new word replaces the one in its place. It changes the speed of encoding
/// and nothing else.
class WordCache {
 public:
  WordCache() : entries_(kEntries) {}

  /// Appends the word's ids to `out`; false if it is not here.
  bool find(std::string_view word, std::vector<int32_t>& out) const;
  /// Words and id lists that do not fit an entry are not kept.
  void put(std::string_view word, std::span<const int32_t> ids);

 private:
  static constexpr size_t kEntries = 1 << 15;
  static constexpr size_t kMaxBytes = 30;
  static constexpr size_t kMaxIds = 8;
  struct Entry {
    std::array<char, kMaxBytes> bytes;
    uint8_t num_bytes = 0;  // 0 = unused
    uint8_t num_ids = 0;
    std::array<int32_t, kMaxIds> ids;
  };
  static size_t place_of(std::string_view word);

  std::vector<Entry> entries_;  // 2 MiB
};

}  // namespace nemo
