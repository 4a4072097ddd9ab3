#include "lib/text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace nemo {
namespace {

std::vector<size_t> fallbacks_of(std::string_view text) {
  std::vector<size_t> fallback(text.size() + 1, 0);
  size_t border = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (border > 0 && text[i] != text[border]) border = fallback[border];
    if (text[i] == text[border]) ++border;
    fallback[i + 1] = border;
  }
  return fallback;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& text : stops) {
    std::vector<size_t> fallback = fallbacks_of(text);
    stops_.push_back({std::move(text), std::move(fallback)});
  }
}

StopMatcher::Result StopMatcher::push(std::string_view piece) {
  Result result;
  if (stops_.empty()) {
    result.text = piece;
    return result;
  }
  for (const char byte : piece) {
    held_ += byte;
    size_t longest = 0;
    size_t complete = 0;
    for (Stop& stop : stops_) {
      while (stop.matched > 0 && stop.text[stop.matched] != byte) stop.matched = stop.fallback[stop.matched];
      if (stop.text[stop.matched] == byte) ++stop.matched;
      longest = std::max(longest, stop.matched);
      if (stop.matched == stop.text.size()) complete = std::max(complete, stop.matched);
    }
    if (complete > 0) {
      result.text.append(held_, 0, held_.size() - complete);
      result.stopped = true;
      held_.clear();
      return result;
    }
    if (held_.size() > longest) {
      result.text.append(held_, 0, held_.size() - longest);
      held_.erase(0, held_.size() - longest);
    }
  }
  return result;
}

std::string StopMatcher::flush() {
  for (Stop& stop : stops_) stop.matched = 0;
  return std::exchange(held_, {});
}

}  // namespace nemo
