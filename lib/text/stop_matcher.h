// StopMatcher: ends a streamed text before its first stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// One continuation's state. "First" is the stop string that is complete first as the text grows byte by
/// byte; of several complete at the same byte, the longest. So the result does not depend on how the text is
/// cut into pieces, and nothing has to be generated past a stop.
class StopMatcher {
 public:
  struct Result {
    std::string text;      ///< certain output: no stop string can begin in it any more
    bool stopped = false;  ///< a stop string is complete; `text` ends before it
  };

  /// `stops` are not empty strings (see invalid_sampling); there may be none.
  explicit StopMatcher(std::vector<std::string> stops);

  /// Takes the next piece. Must not be called after a result with `stopped`.
  Result push(std::string_view piece);

  /// The end of the text: what was held back as the possible beginning of a stop string.
  std::string flush();

 private:
  struct Stop {
    std::string text;
    std::vector<size_t> fallback;  // Knuth-Morris-Pratt: where to go on after a mismatch behind i bytes
    size_t matched = 0;            // bytes of `text` that the end of the stream equals
  };

  std::vector<Stop> stops_;
  std::string held_;  // the longest `matched` tail of the stream
};

}  // namespace nemo
