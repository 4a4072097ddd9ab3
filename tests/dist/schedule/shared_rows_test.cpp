// Sequences that begin alike begin as copies of one, step by step.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/dist/schedule/turns.h"

namespace nemo::dist {
namespace {

using testing::make;
using testing::prompt;
using testing::score;
using testing::turn;

TEST(SharedRows, SamplesOfOneRequestShareItsPrompt) {
  Scheduler scheduler = make({.max_sequences = 3, .prefill_chunk = 14, .kv_pages = 9});
  scheduler.add(prompt(0, 21, {.max_tokens = 1, .n = 4}));
  EXPECT_EQ(turn(scheduler, 0), "0@0+14p1");
  EXPECT_EQ(turn(scheduler, 1), "0@14+6");  // before the last row it waits
  EXPECT_EQ(turn(scheduler, 2), "1@20+1!<0p1 2@20+1!<0p1");
  EXPECT_EQ(turn(scheduler, 3),
            "0@20+1! 2@0+14p1");  // the fourth had found no slot: the first waits no longer
  EXPECT_EQ(scheduler.counters().prompt_tokens, 21 + 2 + 14);
}

// 1 is like 0 for 70 tokens; 2 is like 1 for 90, so like 0 for 70; 3 for 15, too few; 4 has penalties.
TEST(SharedRows, RequestsShareWhatTheyBeginWith) {
  Scheduler scheduler = make({.max_sequences = 5, .kv_pages = 19});
  for (const auto& [unlike_from, token] : {std::pair{100, 1}, {70, 2}, {90, 3}, {15, 4}, {100, 5}}) {
    Request request = prompt(0, 100, {.max_tokens = 1, .presence_penalty = token == 5 ? 0.5 : 0});
    for (size_t i = static_cast<size_t>(unlike_from); i < 100; ++i) request.prompt_ids[i] = token;
    if (token == 3) std::fill_n(request.prompt_ids.begin() + 70, 20, 2);
    scheduler.add(std::move(request));
  }
  EXPECT_EQ(turn(scheduler, 0), "0@0+70p2 3@0+100!p2 4@0+100!p2");
  EXPECT_EQ(turn(scheduler, 1), "1@70+20<0p2");
  EXPECT_EQ(turn(scheduler, 2), "0@70+30! 2@90+10!<1p2");
  EXPECT_EQ(turn(scheduler, 3), "1@90+10!");
  EXPECT_TRUE(scheduler.idle());
}

TEST(SharedRows, ChoicesShareTheirContext) {
  Scheduler scheduler = make({.max_sequences = 3, .kv_pages = 9});
  for (int64_t i = 2; i < 5; ++i) scheduler.add(score(40, i));
  EXPECT_EQ(turn(scheduler, 0), "0@0+39p1");
  EXPECT_EQ(turn(scheduler, 1), "1@39+3<0p1 2@39+4<0p1");
  EXPECT_EQ(turn(scheduler, 2), "0@39+2");
  EXPECT_TRUE(scheduler.idle());
}

}  // namespace
}  // namespace nemo::dist
