#include "lib/sampling/score_windows.h"

#include <algorithm>

namespace nemo {

std::vector<ScoreWindow> score_windows(int64_t num_context, int64_t num_continuation, int64_t max_rows) {
  const int64_t num_tokens = num_context + num_continuation;
  std::vector<ScoreWindow> windows = {{0, num_context, std::min(num_tokens, max_rows + 1)}};
  while (windows.back().end < num_tokens) {
    const int64_t first_predicted = windows.back().end;
    const int64_t end = std::min(num_tokens, first_predicted + max_rows);
    windows.push_back({end - max_rows - 1, first_predicted, end});
  }
  return windows;
}

}  // namespace nemo
