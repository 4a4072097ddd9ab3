#include "lib/request/sampling_json.h"

#include <gtest/gtest.h>

namespace nemo {
namespace {

TEST(SamplingJson, EveryKeyIsKnownAndReachesItsMember) {
  SamplingParams sampling;
  const nlohmann::json values = {{"max_tokens", 7},
                                 {"min_tokens", 1},
                                 {"temperature", 0.25},
                                 {"top_p", 0.5},
                                 {"top_k", 3},
                                 {"min_p", 0.125},
                                 {"n", 2},
                                 {"seed", UINT64_MAX},
                                 {"repetition_penalty", 1.5},
                                 {"frequency_penalty", -1},
                                 {"presence_penalty", 2},
                                 {"stop", {"a", "b"}},
                                 {"stop_token_ids", {4, 5}},
                                 {"ignore_eos", true},
                                 {"logprobs", 5}};
  for (const auto& [key, value] : values.items()) {
    EXPECT_TRUE(is_sampling_key(key));
    EXPECT_EQ(set_sampling_key(sampling, key, value), std::nullopt) << key;
  }
  const SamplingParams expected = {7,   1,  0.25, 0.5,        3,      0.125, 2, UINT64_MAX,
                                   1.5, -1, 2,    {"a", "b"}, {4, 5}, true,  5};
  EXPECT_EQ(sampling, expected);
  EXPECT_FALSE(is_sampling_key("prompt"));
}

TEST(SamplingJson, WrongTypesAreNamedAndChangeNothing) {
  const struct {
    const char* key;
    nlohmann::json value;
    const char* expected;
  } kCases[] = {
      {"max_tokens", 1.5, "max_tokens must be an integer, not 1.5"},
      {"max_tokens", UINT64_MAX, "max_tokens must be an integer, not 18446744073709551615"},
      {"max_tokens", true, "max_tokens must be an integer, not true"},
      {"seed", -1, "seed must be an integer of 0 or more, not -1"},
      {"temperature", "hot", "temperature must be a number, not \"hot\""},
      {"ignore_eos", 1, "ignore_eos must be true or false, not 1"},
      {"stop", {1}, "stop must be a string or a list of strings, not a list"},
      {"stop", {{"a", 1}}, "stop must be a string or a list of strings, not an object"},
      {"stop_token_ids", {-1}, "stop_token_ids must be a list of token ids, not a list"},
      {"stop_token_ids", 5, "stop_token_ids must be a list of token ids, not 5"},
      {"top_p", std::string(1000, 'x'), "top_p must be a number, not a longer string"},
  };
  for (const auto& test : kCases) {
    SamplingParams sampling;
    EXPECT_EQ(set_sampling_key(sampling, test.key, test.value).value_or("nothing"), test.expected);
    EXPECT_EQ(sampling, SamplingParams()) << test.key;
  }
}

}  // namespace
}  // namespace nemo
