// BpeModel: one word to token ids by byte-pair merges.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/text/json_place.h"
#include "lib/text/token_table.h"

namespace nemo {

/// (left id, right id) to (rank, merged id): a flat hash table, since every merge step asks it.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank = kNone;  ///< lower ranks are merged first
    int32_t id = 0;
    static constexpr uint32_t kNone = UINT32_MAX;
  };

  explicit MergeTable(size_t max_merges);
  /// Replaces an earlier merge of the same pair.
  void set(int32_t left, int32_t right, Merge merge);
  /// `rank` is kNone if the pair does not merge.
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t key;
    Merge merge;
  };
  size_t slot_of(uint64_t key) const;

  std::vector<Slot> slots_;  // a power of two of them, at most half of them used
};

/// Working memory of BpeModel::encode_word. Not for use from several threads at once.
struct BpeScratch {
  std::vector<int32_t> ids;
  std::vector<uint32_t> ranks;
  std::vector<uint32_t> next;
  std::vector<uint32_t> previous;
  std::vector<uint64_t> heap;
};

/// The `model` of tokenizer.json. Immutable.
class BpeModel {
 public:
  /// Puts the vocabulary into `tokens`. Throws Error for wrong types, ids out of range or given twice, merges
  /// of unknown tokens, and for other models and options, naming them.
  static BpeModel parse(const JsonPlace& model, TokenTable& tokens);

  /// Appends the ids of `word` (raw bytes). Always merges the pair of lowest rank, the leftmost among equals.
  /// Throws TextError "unknown_token" for a byte without a token, unless the model has an unknown token.
  void encode_word(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const;

 private:
  explicit BpeModel(size_t max_merges) : merges_(max_merges) {}
  void parse_merges(const JsonPlace& merges, const TokenTable& tokens);
  void parse_unknown(const JsonPlace& model, const TokenTable& tokens);
  void index_whole_words(const JsonPlace& vocab);
  void start_symbols(std::string_view word, std::vector<int32_t>& ids) const;
  void merge_short(BpeScratch& scratch, std::vector<int32_t>& out) const;
  void merge_long(BpeScratch& scratch, std::vector<int32_t>& out) const;

  MergeTable merges_;
  std::array<int32_t, 256> id_of_byte_{};  // -1 = none
  int32_t unknown_id_ = -1;                // -1 = none
  bool fuse_unknown_ = false;              // neighbouring unknown bytes become one token
  std::unordered_map<std::string, int32_t>
      whole_words_;  // bytes to id, under ignore_merges: such words are not merged up
};

}  // namespace nemo
