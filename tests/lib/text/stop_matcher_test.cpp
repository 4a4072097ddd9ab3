#include "lib/text/stop_matcher.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>

namespace nemo {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  bool operator==(const Outcome&) const = default;
};

// The definition: the shortest beginning of the text that ends with a stop string, less the longest such one.
Outcome outcome_naively(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> cut;
    for (const std::string& stop : stops) {
      if (!std::string_view(text).substr(0, end).ends_with(stop)) continue;
      cut = std::min(cut.value_or(end), end - stop.size());
    }
    if (cut) return {text.substr(0, *cut), true};
  }
  return {text, false};
}

Outcome outcome_of(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    const StopMatcher::Result result = matcher.push(piece);
    outcome.text += result.text;
    if (result.stopped) return {outcome.text, true};
  }
  outcome.text += matcher.flush();
  return outcome;
}

TEST(StopMatcher, EndsBeforeTheFirstStop) {
  EXPECT_EQ(outcome_of({"one END two END"}, {"END"}), (Outcome{"one ", true}));
  EXPECT_EQ(outcome_of({"one EN", "D two"}, {"END"}), (Outcome{"one ", true}));
  EXPECT_EQ(outcome_of({"one EN"}, {"END"}), (Outcome{"one EN", false}));
  EXPECT_EQ(outcome_of({"aaab"}, {"aab"}), (Outcome{"a", true}));
  EXPECT_EQ(outcome_of({"xabcy"}, {"b", "abc"}), (Outcome{"xa", true}));  // complete first
  EXPECT_EQ(outcome_of({"xabcy"}, {"bc", "abc", "c"}),
            (Outcome{"x", true}));  // the longest of those complete at once
  EXPECT_EQ(outcome_of({"abc"}, {}), (Outcome{"abc", false}));
}

TEST(StopMatcher, TextThatCannotBeAStopIsNotHeldBack) {
  StopMatcher matcher({"\n\nQ:"});
  EXPECT_EQ(matcher.push("abc").text, "abc");
  EXPECT_EQ(matcher.push("d\n").text, "d");
  EXPECT_EQ(matcher.push("\n\n").text, "\n");  // only the last two line ends can begin it
  EXPECT_EQ(matcher.push("x").text, "\n\nx");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, PiecesDoNotMatter) {
  std::mt19937 rng(1);
  const auto word = [&](size_t size) {
    std::string text;
    while (size-- > 0) text += static_cast<char>('a' + rng() % 2);
    return text;
  };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = 0; i < 1 + rng() % 3; ++i) stops.push_back(word(1 + rng() % 6));
    const std::string text = word(rng() % 20);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, rng() % 4));
      at += pieces.back().size();
    }
    const Outcome expected = outcome_naively(text, stops);
    EXPECT_EQ(outcome_of(pieces, stops), expected) << text;
    EXPECT_EQ(outcome_of({text}, stops), expected) << text;
  }
}

}  // namespace
}  // namespace nemo
