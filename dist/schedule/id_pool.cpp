#include "dist/schedule/id_pool.h"

#include <numeric>
#include <string>

#include "kernels/error.h"

namespace nemo::dist {

IdPool::IdPool(int64_t count)
    : free_(static_cast<size_t>(count)), is_taken_(static_cast<size_t>(count), false) {
  std::iota(free_.rbegin(), free_.rend(), 0);  // low ids first, so that memory never needed is never touched
}

int32_t IdPool::take() {
  NEMO_CHECK(!free_.empty(), "none of " + std::to_string(is_taken_.size()) + " ids is free");
  const int32_t id = free_.back();
  free_.pop_back();
  is_taken_[static_cast<size_t>(id)] = true;
  return id;
}

void IdPool::give_back(int32_t id) {
  NEMO_CHECK(is_taken_.at(static_cast<size_t>(id)), "id " + std::to_string(id) + " is free already");
  is_taken_[static_cast<size_t>(id)] = false;
  free_.push_back(id);
}

}  // namespace nemo::dist
