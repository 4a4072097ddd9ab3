#include "lib/text/word_cache.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace nemo {

size_t WordCache::place_of(std::string_view word) {
  return std::hash<std::string_view>()(word) & (kEntries - 1);
}

bool WordCache::find(std::string_view word, std::vector<int32_t>& out) const {
  const Entry& entry = entries_[place_of(word)];
  if (entry.num_bytes != word.size() || word.empty()) return false;
  if (std::memcmp(entry.bytes.data(), word.data(), word.size()) != 0) return false;
  out.insert(out.end(), entry.ids.begin(), entry.ids.begin() + entry.num_ids);
  return true;
}

void WordCache::put(std::string_view word, std::span<const int32_t> ids) {
  if (word.size() > kMaxBytes || ids.size() > kMaxIds) return;
  Entry& entry = entries_[place_of(word)];
  std::memcpy(entry.bytes.data(), word.data(), word.size());
  entry.num_bytes = static_cast<uint8_t>(word.size());
  std::copy(ids.begin(), ids.end(), entry.ids.begin());
  entry.num_ids = static_cast<uint8_t>(ids.size());
}

}  // namespace nemo
