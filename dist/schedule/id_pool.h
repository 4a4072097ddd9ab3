// IdPool: which of a fixed number of things (slots, KV pages) are free.
#pragma once

#include <cstdint>
#include <vector>

namespace nemo::dist {

/// Ids [0, count), all free at first. Which free id is taken next changes no result.
class IdPool {
 public:
  explicit IdPool(int64_t count);

  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }

  /// A free id. There must be one.
  int32_t take();

  /// Throws Error if `id` is free already: two owners of a page would corrupt each other silently.
  void give_back(int32_t id);

 private:
  std::vector<int32_t> free_;
  std::vector<bool> is_taken_;
};

}  // namespace nemo::dist
