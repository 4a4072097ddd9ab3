#include "lib/text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "lib/text/byte_alphabet.h"
#include "lib/text/text_error.h"

namespace nemo {
namespace {

constexpr uint64_t kEmptyKey = UINT64_MAX;  // no pair: ids are not negative
constexpr uint32_t kNoNeighbour = UINT32_MAX;

// Up to this many bytes, looking through all pairs at each step beats a heap.
constexpr size_t kShortWord = 48;

uint64_t key_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

void refuse_options(const JsonPlace& model) {
  if (const auto type = model.find("type"); type && type->string() != "BPE") {
    type->refuse("tokenizer model " + type->string());
  }
  if (const auto dropout = model.find("dropout"); dropout && dropout->value() != 0)
    dropout->refuse("dropout");
  if (model.boolean_or("byte_fallback", false)) model.at("byte_fallback").refuse("byte_fallback");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const auto affix = model.find(key); affix && !affix->string().empty()) affix->refuse(key);
  }
}

// A merge is ["left", "right"] or, in older files, "left right".
std::pair<std::string, std::string> parts_of_merge(const JsonPlace& merge) {
  if (merge.value().is_array()) {
    if (merge.value().size() != 2) merge.fail("must be two tokens");
    return {merge.at(size_t{0}).string(), merge.at(size_t{1}).string()};
  }
  const std::string& text = merge.string();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    merge.fail("must be two tokens with one space between them, not \"" + text + "\"");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

void link_neighbours(BpeScratch& scratch) {
  const size_t n = scratch.ids.size();
  scratch.ranks.resize(n);
  scratch.next.resize(n);
  scratch.previous.resize(n);
  scratch.heap.clear();
  for (uint32_t i = 0; i < n; ++i) {
    scratch.next[i] = i + 1 < n ? i + 1 : kNoNeighbour;
    scratch.previous[i] = i > 0 ? i - 1 : kNoNeighbour;
  }
}

}  // namespace

MergeTable::MergeTable(size_t max_merges) : slots_(std::bit_ceil(2 * max_merges + 2), Slot{kEmptyKey, {}}) {}

size_t MergeTable::slot_of(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  uint64_t hash = key * 0x9E3779B97F4A7C15U;
  size_t slot = (hash ^ hash >> 32) & mask;
  while (slots_[slot].key != key && slots_[slot].key != kEmptyKey) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::set(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = key_of(left, right);
  slots_[slot_of(key)] = {key, merge};
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(key_of(left, right))].merge;
}

BpeModel BpeModel::parse(const JsonPlace& model, TokenTable& tokens) {
  refuse_options(model);
  const JsonPlace vocab = model.at("vocab");
  tokens.reserve(vocab.object().size());
  for (const auto& [spelling, id] : vocab.object().items()) {
    const JsonPlace place = vocab.member(spelling, id);
    const auto number = static_cast<int32_t>(place.integer(0, TokenTable::kMaxIds - 1));
    if (!tokens.add(number, spelling)) place.fail("id " + std::to_string(number) + " is given twice");
  }
  const JsonPlace merges = model.at("merges");
  BpeModel result(merges.array().size());
  for (size_t byte = 0; byte < 256; ++byte) {
    result.id_of_byte_[byte] = tokens.find(spelling_of_byte(static_cast<unsigned char>(byte))).value_or(-1);
  }
  result.parse_merges(merges, tokens);
  result.parse_unknown(model, tokens);
  if (model.boolean_or("ignore_merges", false)) result.index_whole_words(vocab);
  return result;
}

void BpeModel::parse_merges(const JsonPlace& merges, const TokenTable& tokens) {
  const auto id_of = [&](const JsonPlace& place, const std::string& spelling) {
    const auto id = tokens.find(spelling);
    if (!id) place.fail("names the token \"" + spelling + "\", which is not in the vocabulary");
    return *id;
  };
  uint32_t rank = 0;
  for (size_t i = 0; i < merges.array().size(); ++i) {
    const JsonPlace merge = merges.at(i);
    if (merge.value().is_string() && merge.string().starts_with("#version")) continue;
    const auto [left, right] = parts_of_merge(merge);
    const int32_t left_id = id_of(merge, left);
    const int32_t right_id = id_of(merge, right);
    merges_.set(left_id, right_id, {rank++, id_of(merge, left + right)});
  }
}

void BpeModel::parse_unknown(const JsonPlace& model, const TokenTable& tokens) {
  fuse_unknown_ = model.boolean_or("fuse_unk", false);
  const auto unknown = model.find("unk_token");
  if (!unknown) return;
  const auto id = tokens.find(unknown->string());
  if (!id) unknown->fail("\"" + unknown->string() + "\" is not in the vocabulary");
  unknown_id_ = *id;
}

void BpeModel::index_whole_words(const JsonPlace& vocab) {
  for (const auto& [spelling, id] : vocab.object().items()) {
    if (auto bytes = bytes_of_spelling(spelling)) whole_words_.emplace(std::move(*bytes), id.get<int32_t>());
  }
}

void BpeModel::start_symbols(std::string_view word, std::vector<int32_t>& ids) const {
  ids.clear();
  bool after_unknown = false;
  for (const char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    const int32_t id = id_of_byte_[byte];
    if (id >= 0) {
      ids.push_back(id);
    } else if (unknown_id_ < 0) {
      throw TextError("unknown_token", "the vocabulary has no token for the byte " + std::to_string(byte));
    } else if (!(after_unknown && fuse_unknown_)) {
      ids.push_back(unknown_id_);
    }
    after_unknown = id < 0;
  }
}

void BpeModel::encode_word(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const {
  if (!whole_words_.empty()) {
    const auto it = whole_words_.find(std::string(word));
    if (it != whole_words_.end()) return out.push_back(it->second);
  }
  start_symbols(word, scratch.ids);
  if (scratch.ids.size() <= kShortWord) {
    merge_short(scratch, out);
  } else {
    merge_long(scratch, out);
  }
}

void BpeModel::merge_short(BpeScratch& scratch, std::vector<int32_t>& out) const {
  auto& ids = scratch.ids;
  auto& ranks = scratch.ranks;  // of the pair (i, i + 1)
  const auto rank_at = [&](size_t i) { return merges_.find(ids[i], ids[i + 1]).rank; };
  ranks.clear();
  for (size_t i = 0; i + 1 < ids.size(); ++i) ranks.push_back(rank_at(i));
  while (!ranks.empty()) {
    const auto least = std::min_element(ranks.begin(), ranks.end());  // the first of equals
    if (*least == MergeTable::Merge::kNone) break;
    const auto i = static_cast<size_t>(least - ranks.begin());
    ids[i] = merges_.find(ids[i], ids[i + 1]).id;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(i) + 1);
    ranks.erase(least);
    if (i < ranks.size()) ranks[i] = rank_at(i);
    if (i > 0) ranks[i - 1] = rank_at(i - 1);
  }
  out.insert(out.end(), ids.begin(), ids.end());
}

// A heap of the pairs that can merge, over a linked list of symbols: each of the n - 1 merges at most costs
// O(log n).
void BpeModel::merge_long(BpeScratch& scratch, std::vector<int32_t>& out) const {
  auto& ids = scratch.ids;
  auto& ranks = scratch.ranks;
  auto& next = scratch.next;
  auto& previous = scratch.previous;
  auto& heap = scratch.heap;
  link_neighbours(scratch);
  // Entries are rank << 32 | position, so equal ranks go from left to right.
  const auto later = std::greater<uint64_t>();
  // ranks[i] is that of the pair (i, next[i]) as it is now; an entry made of an older pair is recognised by
  // it.
  const auto rate = [&](uint32_t i) {
    ranks[i] = next[i] == kNoNeighbour ? MergeTable::Merge::kNone : merges_.find(ids[i], ids[next[i]]).rank;
    if (ranks[i] == MergeTable::Merge::kNone) return false;
    heap.push_back(static_cast<uint64_t>(ranks[i]) << 32 | i);
    return true;
  };
  for (uint32_t i = 0; i < ids.size(); ++i) rate(i);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const auto i = static_cast<uint32_t>(heap.back());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    heap.pop_back();
    if (ranks[i] != rank) continue;
    const uint32_t right = next[i];
    ids[i] = merges_.find(ids[i], ids[right]).id;
    ranks[right] = MergeTable::Merge::kNone;
    next[i] = next[right];
    if (next[i] != kNoNeighbour) previous[next[i]] = i;
    for (const uint32_t changed : {i, previous[i]}) {
      if (changed != kNoNeighbour && rate(changed)) std::push_heap(heap.begin(), heap.end(), later);
    }
  }
  for (uint32_t i = 0; i != kNoNeighbour; i = next[i]) out.push_back(ids[i]);
}

}  // namespace nemo
