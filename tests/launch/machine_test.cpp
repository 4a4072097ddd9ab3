#include "launch/machine.h"

#include <gtest/gtest.h>

#include <vector>

namespace nemo::launch {
namespace {

std::string mask_of(std::initializer_list<int> cores) {
  std::string mask(16, '\0');
  for (int core : cores) mask[static_cast<size_t>(core / 8)] |= static_cast<char>(1 << core % 8);
  return mask;
}

void expect_share(const std::vector<std::string>& masks, size_t rank, int64_t of_rank, int64_t of_host) {
  const CoreShare share = share_cores(masks, rank);
  EXPECT_EQ(share.of_rank, of_rank) << "rank " << rank;
  EXPECT_EQ(share.of_host, of_host) << "rank " << rank;
}

TEST(ShareCoresTest, RanksThatMayUseTheSameCoresDivideThem) {
  const std::vector<std::string> masks(3, mask_of({0, 1, 2, 3, 40, 41, 42, 127}));
  for (size_t rank = 0; rank < masks.size(); ++rank) expect_share(masks, rank, 2, 8);
}

TEST(ShareCoresTest, BoundRanksKeepTheirOwn) {
  // As srun --cpus-per-task=4 binds them.
  const std::vector<std::string> masks = {mask_of({0, 1, 2, 3}), mask_of({4, 5, 6, 7})};
  expect_share(masks, 0, 4, 8);
  expect_share(masks, 1, 4, 8);
}

TEST(ShareCoresTest, WhatOnlyOneMayUseIsItsOwn) {
  const std::vector<std::string> masks = {mask_of({0, 1, 2, 3}), mask_of({2, 3})};
  expect_share(masks, 0, 3, 4);
  expect_share(masks, 1, 1, 4);
}

TEST(ShareCoresTest, MoreRanksThanCoresHaveOneEach) {
  const std::vector<std::string> masks(5, mask_of({8, 9}));
  for (size_t rank = 0; rank < masks.size(); ++rank) expect_share(masks, rank, 1, 2);
}

TEST(ShareCoresTest, ThisProcessMayRunSomewhere) {
  EXPECT_GE(available_cores(), 1);
}

}  // namespace
}  // namespace nemo::launch
