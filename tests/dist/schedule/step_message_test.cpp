#include "dist/schedule/step_message.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "kernels/error.h"

namespace nemo::dist {
namespace {

SamplingKey full_key() {
  SamplingKey key;
  key.params = {.max_tokens = 1,
                .min_tokens = 2,
                .temperature = 0.3,
                .top_p = 0.4,
                .top_k = 5,
                .min_p = 0.6,
                .n = 7,
                .seed = ~0ULL,
                .repetition_penalty = 0.9,
                .frequency_penalty = -1,
                .presence_penalty = 1.1,
                .stop = {"", "stop"},
                .stop_token_ids = {12, 13},
                .ignore_eos = true,
                .logprobs = 14};
  key.request_hash = 0xfedcba9876543210ULL;
  key.sample = 15;
  key.num_prompt_tokens = 1LL << 40;
  key.end_token_ids = {1, 2, 3};
  return key;
}

StepMessage full_message() {
  StepMessage message{.step = 1LL << 33, .stop = true, .segments = {}};
  message.segments.push_back(
      {.slot = 3, .position = 0, .token_ids = {1, 2}, .new_pages = {9}, .start = full_key()});
  message.segments.push_back(
      {.slot = 4, .position = 1, .token_ids = {2}, .new_pages = {8}, .fork_of = 3, .start = full_key()});
  message.segments.push_back({.slot = 0, .position = 77, .token_ids = {131071}, .sample = true});
  message.segments.push_back({.slot = 1, .position = 5, .token_ids = {4, 5, 6}, .targets = {-1, 6, 7}});
  return message;
}

StepResult full_result() {
  StepResult result{.step = 8, .segments = {}};
  result.segments.push_back({.slot = 2, .sampled = SampledToken{7, -0.5F, {{7, -0.5F}, {8, -INFINITY}}}});
  result.segments.push_back({.slot = 4, .target_logprobs = {-1, -2}, .target_is_argmax = {1, 0}});
  return result;
}

TEST(StepMessage, ComesBackWhole) {
  const StepMessage sent = full_message();
  const StepMessage got = step_message_from_bytes(to_bytes(sent));
  EXPECT_EQ(to_bytes(got), to_bytes(sent));
  EXPECT_EQ(got.step, sent.step);
  EXPECT_TRUE(got.stop);
  EXPECT_EQ(got.num_rows(), 7);
  ASSERT_EQ(got.segments.size(), 4U);
  EXPECT_EQ(got.segments[0].new_pages, std::vector<int32_t>{9});
  const SamplingKey& key = got.segments[0].start.value();
  EXPECT_TRUE(key.params == full_key().params);
  EXPECT_EQ(key.request_hash, full_key().request_hash);
  EXPECT_EQ(key.sample, 15);
  EXPECT_EQ(key.num_prompt_tokens, 1LL << 40);
  EXPECT_EQ(key.end_token_ids, full_key().end_token_ids);
  EXPECT_FALSE(got.segments[0].fork_of.has_value());
  EXPECT_EQ(got.segments[1].fork_of, 3);
  EXPECT_EQ(got.segments[2].slot, 0);
  EXPECT_EQ(got.segments[2].position, 77);
  EXPECT_TRUE(got.segments[2].sample);
  EXPECT_FALSE(got.segments[2].start.has_value());
  EXPECT_EQ(got.segments[3].token_ids, (std::vector<int32_t>{4, 5, 6}));
  EXPECT_EQ(got.segments[3].targets, (std::vector<int32_t>{-1, 6, 7}));
}

TEST(StepResult, ComesBackWhole) {
  const StepResult got = step_result_from_bytes(to_bytes(full_result()));
  EXPECT_EQ(to_bytes(got), to_bytes(full_result()));
  EXPECT_EQ(got.step, 8);
  ASSERT_EQ(got.segments.size(), 2U);
  EXPECT_EQ(got.segments[0].sampled->top, full_result().segments[0].sampled->top);
  EXPECT_EQ(got.segments[1].target_logprobs, (std::vector<float>{-1, -2}));
  EXPECT_EQ(got.segments[1].target_is_argmax, (std::vector<uint8_t>{1, 0}));
}

TEST(StepResult, KeepsTheBitsOfNaN) {
  StepResult sent{.step = 0, .segments = {{.slot = 0, .sampled = SampledToken{0, std::nanf("7"), {}}}}};
  EXPECT_EQ(to_bytes(step_result_from_bytes(to_bytes(sent))), to_bytes(sent));
}

TEST(StepMessage, EmptyOnesAreFine) {
  EXPECT_EQ(step_message_from_bytes(to_bytes(StepMessage{})).num_rows(), 0);
  EXPECT_TRUE(step_result_from_bytes(to_bytes(StepResult{})).segments.empty());
}

template <class Parse>
void expect_every_prefix_refused(const std::string& bytes, const Parse& parse) {
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THROW(parse(bytes.substr(0, size)), Error) << size;
  EXPECT_THROW(parse(bytes + '\0'), Error);
}

TEST(StepMessage, RefusesBytesThatAreCutOrTooMany) {
  expect_every_prefix_refused(to_bytes(full_message()), step_message_from_bytes);
  expect_every_prefix_refused(to_bytes(full_result()), step_result_from_bytes);
  EXPECT_THROW(step_message_from_bytes(to_bytes(full_result())), Error);
  EXPECT_THROW(step_result_from_bytes(to_bytes(full_message())), Error);
}

TEST(StepMessage, RefusesWhatNoSchedulerSends) {
  const auto refuses = [](const StepSegment& segment) {
    const std::string bytes = to_bytes(StepMessage{.step = 0, .stop = false, .segments = {segment}});
    EXPECT_THROW(step_message_from_bytes(bytes), Error);
  };
  refuses({.slot = -1, .token_ids = {1}});
  refuses({.position = -1, .token_ids = {1}});
  refuses({.token_ids = {}});
  refuses({.token_ids = {-1}});
  refuses({.token_ids = {1}, .new_pages = {-1}});
  refuses({.position = 1, .token_ids = {1}, .start = full_key()});
  refuses({.position = 1, .token_ids = {1}, .fork_of = -1, .start = full_key()});
  refuses({.position = 0, .token_ids = {1}, .fork_of = 1, .start = full_key()});
  refuses({.slot = 1, .position = 1, .token_ids = {1}, .fork_of = 1, .start = full_key()});
  refuses({.token_ids = {1, 2}, .targets = {1}});
  refuses({.token_ids = {1}, .targets = {-2}});
}

TEST(StepResult, RefusesWhatNoStageSends) {
  const auto refuses = [](const SegmentResult& segment) {
    EXPECT_THROW(step_result_from_bytes(to_bytes(StepResult{.step = 0, .segments = {segment}})), Error);
  };
  refuses({.slot = -1});
  refuses({.slot = 0, .sampled = SampledToken{-1, 0, {}}});
  refuses({.slot = 0, .target_logprobs = {0}});
  refuses({.slot = 0, .target_logprobs = {0}, .target_is_argmax = {2}});
}

// A count of 4 billion in 4 bytes must not become an allocation of as many; any other byte may be read or
// refused.
TEST(StepMessage, SurvivesAnyChangedByte) {
  std::mt19937 random(1);
  for (const std::string& whole : {to_bytes(full_message()), to_bytes(full_result())}) {
    for (size_t i = 0; i < whole.size(); ++i) {
      for (const int value : {0, 1, 0x7f, 0xff, static_cast<int>(random() % 256)}) {
        std::string bytes = whole;
        bytes[i] = static_cast<char>(value);
        try {
          (void)step_message_from_bytes(bytes);
        } catch (const Error&) {
        }
        try {
          (void)step_result_from_bytes(bytes);
        } catch (const Error&) {
        }
      }
    }
  }
}

}  // namespace
}  // namespace nemo::dist
