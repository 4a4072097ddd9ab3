#include "lib/sampling/score_windows.h"

#include <gtest/gtest.h>

namespace nemo {
namespace {

using Windows = std::vector<ScoreWindow>;

TEST(ScoreWindows, OneIfItFits) {
  EXPECT_EQ(score_windows(2, 3, 100), (Windows{{0, 2, 5}}));
  EXPECT_EQ(score_windows(2, 3, 4), (Windows{{0, 2, 5}}));  // the last token needs no row
}

// As evaluations of language models cut them: windows of 4 rows, each token predicted once.
TEST(ScoreWindows, RollOverLongText) {
  EXPECT_EQ(score_windows(2, 4, 4),
            (Windows{{0, 2, 5}, {1, 5, 6}}));  // the last has all the context that fits
  EXPECT_EQ(score_windows(1, 9, 4), (Windows{{0, 1, 5}, {4, 5, 9}, {5, 9, 10}}));
  EXPECT_EQ(score_windows(4, 5, 4), (Windows{{0, 4, 5}, {4, 5, 9}}));
  EXPECT_EQ(score_windows(1, 3, 1), (Windows{{0, 1, 2}, {1, 2, 3}, {2, 3, 4}}));
}

TEST(ScoreWindows, PredictEachTokenOnceWithinTheLimit) {
  for (int64_t max_rows = 1; max_rows < 9; ++max_rows) {
    for (int64_t num_context = 1; num_context <= max_rows; ++num_context) {
      for (int64_t num_continuation = 1; num_continuation < 30; ++num_continuation) {
        int64_t next = num_context;
        for (const ScoreWindow& window : score_windows(num_context, num_continuation, max_rows)) {
          ASSERT_EQ(window.first_predicted, next);
          ASSERT_LT(window.begin, window.first_predicted);
          ASSERT_GE(window.begin, 0);
          ASSERT_LE(window.num_rows(), max_rows);
          next = window.end;
        }
        ASSERT_EQ(next, num_context + num_continuation);
      }
    }
  }
}

}  // namespace
}  // namespace nemo
