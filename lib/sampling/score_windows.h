// How a scored text longer than the context is cut into windows that fit.
#pragma once

#include <cstdint>
#include <vector>

namespace nemo {

/// Tokens [begin, end) of context and continuation together. The model sees [begin, end - 1) and is asked for
/// the probabilities of [first_predicted, end).
struct ScoreWindow {
  int64_t begin = 0;
  int64_t first_predicted = 0;
  int64_t end = 0;

  int64_t num_rows() const { return end - begin - 1; }
  bool operator==(const ScoreWindow&) const = default;
};

/// Rolling windows, as language-model evaluations use them: every continuation token is predicted exactly
/// once; the first window begins with the context, a later one with as much of the preceding text as fits,
/// but at least one token. Needs 1 <= num_context <= max_rows and 1 <= num_continuation.
std::vector<ScoreWindow> score_windows(int64_t num_context, int64_t num_continuation, int64_t max_rows);

}  // namespace nemo
