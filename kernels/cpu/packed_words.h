// Rows as blocks of a PackedMatrix hold them. Whatever the format, a row is a run of words, and word w of all
// rows of a block makes line w: blocks are rows transposed. Internal to kernels/cpu.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {

/// The first byte of each row of a block, by the row's place in its lines; null where none is given.
using RowsByPlace = std::array<const std::byte*, kBlockColumns>;

/// Where the lines of a block lie: kApart bytes apart, and kGap bytes more after every 8 of them. Both are
/// known to the compiler, and so are the distances in a square of words, which begins at a multiple of 8
/// where there is a gap.
template <int64_t kApart, int64_t kGap = 0>
struct Lines {
  std::byte* first = nullptr;

  static constexpr int64_t offset(int64_t word) { return word * kApart + word / 8 * kGap; }
};

/// 16 bytes of one row, as a register of every x86-64 and of ARM holds them.
template <class Word>
struct RowWords {
  static constexpr int kCount = 16 / sizeof(Word);
  typedef Word Vector __attribute__((vector_size(16)));
};

/// Words of `first` and `second` in turn, from word kBegin of both on.
template <class Word, int kBegin, int... kPlace>
auto in_turn(const typename RowWords<Word>::Vector& first, const typename RowWords<Word>::Vector& second,
             std::integer_sequence<int, kPlace...>) {
  constexpr int kCount = RowWords<Word>::kCount;
  return __builtin_shufflevector(first, second, (kBegin + kPlace / 2 + kPlace % 2 * kCount)...);
}

/// Stores a square of words: 16 bytes each of as many rows as there are words in them, byte `begin` of every
/// row first. Word w comes to `out` + offset(w).
template <class Word, int64_t kApart, int64_t kGap>
void store_square(const std::byte* const* rows, int64_t begin, std::byte* out, Lines<kApart, kGap> lines) {
  constexpr int kCount = RowWords<Word>::kCount;
  constexpr auto kPlaces = std::make_integer_sequence<int, kCount>();
  std::array<typename RowWords<Word>::Vector, kCount> now, next;
  for (int i = 0; i < kCount; ++i) std::memcpy(&now[i], rows[i] + begin, 16);
  // The first half of a square and its second in turn, as often as its side can be halved, are its transpose:
  // each time the bits of a word's place move up by one, until those of row and column have changed sides.
  for (int side = kCount; side > 1; side /= 2, now = next)
    for (int i = 0; i < kCount / 2; ++i) {
      next[2 * i] = in_turn<Word, 0>(now[i], now[i + kCount / 2], kPlaces);
      next[2 * i + 1] = in_turn<Word, kCount / 2>(now[i], now[i + kCount / 2], kPlaces);
    }
  for (int i = 0; i < kCount; ++i) std::memcpy(out + lines.offset(i), &now[i], 16);
}

/// Stores bytes [begin, end) of one row, word after word, of a last one what there is. `out` is its place in
/// the first line.
template <class Word, int64_t kApart, int64_t kGap>
void store_row(const std::byte* row, int64_t begin, int64_t end, std::byte* out, Lines<kApart, kGap> lines) {
  constexpr int64_t kWordBytes = sizeof(Word);
  int64_t byte = begin;
  for (; byte + kWordBytes <= end; byte += kWordBytes)
    std::memcpy(out + lines.offset(byte / kWordBytes), row + byte, sizeof(Word));
  for (; byte < end; ++byte) out[lines.offset(byte / kWordBytes) + byte % kWordBytes] = row[byte];
}

/// Stores the rows that are given, of `row_bytes` bytes each, and leaves what else is in the lines alone.
template <class Word, int64_t kApart, int64_t kGap>
void store_words(const RowsByPlace& rows, int64_t row_bytes, Lines<kApart, kGap> lines) {
  // Bytes of a row that are stored, for all rows of a block, before the next ones: their 16 KiB stay in L1,
  // where a row alone would touch a line of memory for every word.
  constexpr int64_t kTileBytes = 256;
  constexpr int64_t kWordBytes = sizeof(Word), kCount = RowWords<Word>::kCount;
  for (int64_t tile = 0; tile < row_bytes; tile += kTileBytes) {
    const int64_t end = std::min(row_bytes, tile + kTileBytes);
    for (int64_t place = 0; place < kBlockColumns; place += kCount) {
      const std::byte* const* group = rows.data() + place;
      std::byte* out = lines.first + place * kWordBytes;
      int64_t left = tile;
      if (std::all_of(group, group + kCount, [](const std::byte* row) { return row != nullptr; }))
        for (; left + 16 <= end; left += 16)
          store_square<Word>(group, left, out + lines.offset(left / kWordBytes), lines);
      for (int64_t i = 0; i < kCount; ++i)
        if (group[i] != nullptr) store_row<Word>(group[i], left, end, out + i * kWordBytes, lines);
    }
  }
}

}  // namespace nemo::kernels
