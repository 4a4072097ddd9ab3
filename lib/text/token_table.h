// TokenTable: ids, spellings and bytes of all tokens of a tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nemo {

/// Owns its texts.
class TokenTable {
 public:
  /// Ids must be below this: 32 times the largest vocabulary we know, and little enough memory for a damaged
  /// file to ask for.
  static constexpr int64_t kMaxIds = 1 << 22;

  void reserve(size_t num_tokens) { id_of_spelling_.reserve(num_tokens); }
  /// Whether it was added: neither `id` (below kMaxIds) nor `spelling` may be there already.
  bool add(int32_t id, const std::string& spelling);

  std::optional<int32_t> find(std::string_view spelling) const;
  /// Empty for ids without a token.
  std::string_view bytes(int64_t id) const;
  /// One more than the largest id.
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

 private:
  struct Entry {
    uint64_t begin = 0;
    uint32_t size = 0;
    bool is_used = false;
  };
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> id_of_spelling_;
  std::string bytes_;  // of all tokens, one behind the other
  std::vector<Entry> entries_;
};

}  // namespace nemo
