#include "lib/text/token_table.h"

#include "lib/text/byte_alphabet.h"

namespace nemo {

bool TokenTable::add(int32_t id, const std::string& spelling) {
  const auto index = static_cast<size_t>(id);
  if (index < entries_.size() && entries_[index].is_used) return false;
  if (!id_of_spelling_.emplace(spelling, id).second) return false;
  if (index >= entries_.size()) entries_.resize(index + 1);
  const std::string bytes = token_bytes_of_spelling(spelling);
  entries_[index] = {bytes_.size(), static_cast<uint32_t>(bytes.size()), true};
  bytes_ += bytes;
  return true;
}

std::optional<int32_t> TokenTable::find(std::string_view spelling) const {
  const auto it = id_of_spelling_.find(spelling);
  if (it == id_of_spelling_.end()) return std::nullopt;
  return it->second;
}

std::string_view TokenTable::bytes(int64_t id) const {
  if (id < 0 || id >= size()) return {};
  const Entry& entry = entries_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(entry.begin, entry.size);
}

}  // namespace nemo
