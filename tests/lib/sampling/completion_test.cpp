#include "lib/sampling/completion.h"

#include <gtest/gtest.h>

#include <string>

#include "kernels/error.h"
#include "tests/lib/sampling/letter_tokenizer.h"

namespace nemo {
namespace {

using testing::kEnd;
using testing::letter_tokenizer;

constexpr int32_t kOrdinaryEnd = 3;  // "d"

SamplingKey key_of(const SamplingParams& params, int64_t num_prompt_tokens = 4) {
  Request request;
  request.prompt_ids.assign(static_cast<size_t>(num_prompt_tokens), 0);
  request.sampling = params;
  return make_sampling_key(request, 0, std::vector<int32_t>{kEnd});
}

struct Case {
  const char* name;
  SamplingParams params;
  std::vector<int32_t> drawn;
  std::string text;
  const char* finish_reason;
  size_t num_tokens;
  int64_t max_context = 1000;
};

Output run(const Case& c) {
  Completion completion(key_of(c.params), c.max_context, letter_tokenizer());
  for (const int32_t token_id : c.drawn) {
    if (completion.push({token_id, -0.5F, {}}) == CompletionStatus::kFinished) break;
  }
  return completion.take();
}

TEST(Completion, EndsByTheRules) {
  const Case cases[] = {
      {"end token", {}, {0, 1, kEnd, 2}, "ab", "stop", 3},
      {"end token ignored", {.max_tokens = 3, .ignore_eos = true}, {0, kEnd, 1}, "ab", "length", 3},
      {"ordinary stop token", {.stop_token_ids = {kOrdinaryEnd}}, {0, 3, 1}, "a", "stop", 2},
      {"stop token though eos is ignored",
       {.stop_token_ids = {kEnd}, .ignore_eos = true},
       {0, kEnd},
       "a",
       "stop",
       2},
      {"max_tokens", {.max_tokens = 2}, {0, 1, 2}, "ab", "length", 2},
      {"end token as last of max_tokens", {.max_tokens = 2}, {0, kEnd}, "a", "stop", 2},
      {"context full", {}, {0, 1, 2}, "ab", "length", 2, 6},
      {"stop string", {.stop = {"bc"}}, {0, 1, 2, 3}, "a", "stop", 3},
      {"first of two stop strings", {.stop = {"cd", "bc"}}, {0, 1, 2, 3}, "a", "stop", 3},
      {"half a stop string at the end", {.max_tokens = 2, .stop = {"bc"}}, {0, 1}, "ab", "length", 2},
      {"half a stop string before the end token", {.stop = {"bc"}}, {0, 1, kEnd}, "ab", "stop", 3},
      {"stop string across an ignored end token",
       {.stop = {"bc"}, .ignore_eos = true},
       {1, kEnd, 2},
       "",
       "stop",
       3},
      {"stop string as last of max_tokens", {.max_tokens = 2, .stop = {"b"}}, {0, 1}, "a", "stop", 2},
      {"no stop within min_tokens",
       {.max_tokens = 5, .min_tokens = 2, .stop = {"b"}},
       {1, 1, 0, 1},
       "bba",
       "stop",
       4},
      {"no stop half within min_tokens",
       {.max_tokens = 3, .min_tokens = 2, .stop = {"bc"}},
       {0, 1, 2},
       "abc",
       "length",
       3},
      {"no end token within min_tokens", {.min_tokens = 2}, {kEnd, 0, kEnd}, "a", "stop", 3},
      {"character of three tokens", {.max_tokens = 3}, {26, 27, 28}, "\u20ac", "length", 3},
      {"unfinished character", {.max_tokens = 3}, {0, 26, 27}, "a\ufffd", "length", 3},
      {"unfinished character before the end token", {}, {26, kEnd}, "\ufffd", "stop", 2},
      {"stop string made by the last flush", {.stop = {"\ufffd"}}, {0, 26, kEnd}, "a", "stop", 3},
      {"token outside the vocabulary", {.max_tokens = 2}, {0, 4000}, "a", "length", 2},
  };
  for (const Case& c : cases) {
    const Output output = run(c);
    EXPECT_EQ(output.text, c.text) << c.name;
    EXPECT_EQ(output.finish_reason, c.finish_reason) << c.name;
    EXPECT_EQ(output.token_ids,
              std::vector<int32_t>(c.drawn.begin(), c.drawn.begin() + static_cast<int64_t>(c.num_tokens)))
        << c.name;
    EXPECT_TRUE(output.logprobs.empty() && output.top_logprobs.empty()) << c.name;
  }
}

TEST(Completion, KeepsLogprobsOnlyIfAskedFor) {
  Completion completion(key_of({.max_tokens = 2, .logprobs = 1}), 100, letter_tokenizer());
  completion.push({0, -0.25F, {{1, -0.125F}}});
  completion.push({1, -0.5F, {{1, -0.5F}}});
  const Output output = completion.take();
  EXPECT_EQ(output.logprobs, (std::vector<float>{-0.25F, -0.5F}));
  EXPECT_EQ(output.top_logprobs, (std::vector<std::vector<TokenLogprob>>{{{1, -0.125F}}, {{1, -0.5F}}}));
}

TEST(Completion, NothingToDrawIsFinishedAtOnce) {
  Completion no_tokens(key_of({.max_tokens = 0}), 100, letter_tokenizer());
  EXPECT_EQ(no_tokens.status(), CompletionStatus::kFinished);
  EXPECT_EQ(no_tokens.take().finish_reason, "length");
  Completion no_room(key_of({}), 4, letter_tokenizer());
  EXPECT_EQ(no_room.take().finish_reason, "length");
}

// What a scheduler does after a crash: the same tokens, given at once, leave the same state wherever they are
// cut.
TEST(Completion, GoesOnFromPriorTokens) {
  const SamplingParams params = {.max_tokens = 6, .stop = {"\u20acab"}};
  std::vector<SampledToken> drawn;
  for (const int32_t token_id : {0, 26, 27, 28, 0, 1}) drawn.push_back({token_id, -1, {}});
  for (size_t cut = 0; cut < drawn.size(); ++cut) {
    Completion completion(key_of(params), 100, letter_tokenizer(), std::span(drawn).first(cut));
    EXPECT_EQ(completion.token_ids().size(), cut);
    for (size_t i = cut; i < drawn.size(); ++i) completion.push(drawn[i]);
    const Output output = completion.take();
    EXPECT_EQ(output.text, "a") << cut;
    EXPECT_EQ(output.finish_reason, "stop") << cut;
  }
}

TEST(Completion, RefusesATokenAfterTheEnd) {
  Completion completion(key_of({.max_tokens = 1}), 100, letter_tokenizer());
  completion.push({0, 0, {}});
  EXPECT_THROW(completion.push({0, 0, {}}), Error);
}

TEST(MakeSamplingKey, KnowsItsEndTokens) {
  Request request;
  request.id = "line";
  request.prompt_ids = {1, 2, 3};
  request.sampling.stop_token_ids = {7};
  const SamplingKey key = make_sampling_key(request, 2, std::vector<int32_t>{8, 9});
  EXPECT_EQ(key.end_token_ids, (std::vector<int32_t>{7, 8, 9}));
  EXPECT_EQ(key.request_hash, hash_request_id("line"));
  EXPECT_EQ(key.sample, 2);
  EXPECT_EQ(key.num_prompt_tokens, 3);
  request.sampling.ignore_eos = true;
  EXPECT_EQ(make_sampling_key(request, 2, std::vector<int32_t>{8, 9}).end_token_ids, std::vector<int32_t>{7});
}

}  // namespace
}  // namespace nemo
