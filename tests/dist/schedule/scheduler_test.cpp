// What the scheduler does, step by step, where its choices matter: order, sizes, pages, errors. That its
// choices never change an answer is in scheduler_property_test.cpp.
#include "dist/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "kernels/error.h"
#include "tests/dist/schedule/turns.h"

namespace nemo::dist {
namespace {

using nemo::testing::kEnd;
using testing::answer;
using testing::make;
using testing::prompt;
using testing::score;
using testing::show;
using testing::turn;

TEST(Scheduler, ChunksOfAPromptFollowWithoutWaiting) {
  Scheduler scheduler = make({.prefill_chunk = 2});
  scheduler.add(prompt(0, 5));
  const StepMessage first = scheduler.compose(0), second = scheduler.compose(1), third = scheduler.compose(2);
  EXPECT_EQ(show(first), "0@0+2p1");
  EXPECT_EQ(show(second), "0@2+2");
  EXPECT_EQ(show(third), "0@4+1!");
  EXPECT_TRUE(first.segments[0].start.has_value());
  EXPECT_FALSE(second.segments[0].start.has_value());
  EXPECT_EQ(show(scheduler.compose(3)), "");  // its first token is not known yet
  scheduler.apply(answer(first));
  scheduler.apply(answer(second));
  scheduler.apply(answer(third, 9));
  const StepMessage decode = scheduler.compose(3);
  EXPECT_EQ(show(decode), "0@5+1!");
  EXPECT_EQ(decode.segments[0].token_ids, std::vector<int32_t>{9});
  EXPECT_EQ(scheduler.counters().prompt_tokens, 5);
  EXPECT_EQ(scheduler.counters().output_tokens, 1);
}

TEST(Scheduler, DecodesFirstThenPromptsWithinTheRows) {
  Scheduler scheduler = make({.max_sequences = 3, .max_batch_tokens = 6, .prefill_chunk = 4, .kv_pages = 9});
  scheduler.add(prompt(0, 2));
  EXPECT_EQ(turn(scheduler, 0), "0@0+2!p1");
  scheduler.add(prompt(1, 7));
  scheduler.add(prompt(2, 3));
  EXPECT_EQ(turn(scheduler, 1), "0@2+1! 1@0+4p1 2@0+1p1");
  EXPECT_EQ(turn(scheduler, 2), "0@3+1! 1@4+3! 2@1+2!");
  EXPECT_EQ(turn(scheduler, 3), "0@4+1! 1@7+1! 2@3+1!");
}

TEST(Scheduler, MicroBatchesShareTheSequences) {
  Scheduler scheduler = make({.max_sequences = 5, .kv_pages = 9, .micro_batches = 2});
  for (int64_t i = 0; i < 5; ++i) scheduler.add(prompt(i, 1));
  scheduler.apply(answer(scheduler.compose(0)));
  const StepMessage first = scheduler.compose(1), second = scheduler.compose(2);
  EXPECT_EQ(show(first), "0@1+1! 1@1+1! 2@1+1!");
  EXPECT_EQ(show(second), "3@1+1! 4@1+1!");
  EXPECT_EQ(show(scheduler.compose(3)), "");
  scheduler.apply(answer(first));
  EXPECT_EQ(show(scheduler.compose(3)), "0@2+1! 1@2+1! 2@2+1!");
}

TEST(Scheduler, AFreeSlotGoesToTheNextInLine) {
  Scheduler scheduler = make({.max_sequences = 1, .kv_pages = 4});
  scheduler.add(prompt(0, 3, {.max_tokens = 2}));
  scheduler.add(prompt(1, 4, {.max_tokens = 1}));
  EXPECT_EQ(turn(scheduler, 0), "0@0+3!p1");
  EXPECT_EQ(turn(scheduler, 1), "0@3+1!");
  EXPECT_EQ(turn(scheduler, 2), "0@0+4!p1");
  const std::vector<Record> records = scheduler.take_finished();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].outputs.at(0).text, "aa");
  EXPECT_EQ(records[0].outputs.at(0).finish_reason, "length");
  EXPECT_EQ(records[1].id, "1");
  EXPECT_TRUE(scheduler.idle());
}

TEST(Scheduler, SamplesOfOneRequestMakeOneRecord) {
  Scheduler scheduler = make({.max_sequences = 2, .kv_pages = 9});
  scheduler.add(prompt(0, 2, {.max_tokens = 1, .n = 3}));
  EXPECT_EQ(scheduler.counters().queued, 3);
  const StepMessage message = scheduler.compose(0);
  EXPECT_EQ(show(message), "0@0+2!p1 1@0+2!p1");
  EXPECT_EQ(message.segments[1].start->sample, 1);
  scheduler.apply(answer(message, 3));
  EXPECT_TRUE(scheduler.take_finished().empty());
  turn(scheduler, 1, 4);
  const std::vector<Record> records = scheduler.take_finished();
  ASSERT_EQ(records.size(), 1U);
  ASSERT_EQ(records[0].outputs.size(), 3U);
  EXPECT_EQ(records[0].outputs[0].text, "d");
  EXPECT_EQ(records[0].outputs[2].text, "e");
}

TEST(Scheduler, ThePagesGoToTheOldest) {
  Scheduler scheduler = make({.max_sequences = 2, .kv_pages = 3, .max_context = 190});
  scheduler.add(prompt(0, 64, {.max_tokens = 100}));
  Request other = prompt(1, 64, {.max_tokens = 2});
  other.prompt_ids.front() = 2;  // that nothing is shared
  scheduler.add(std::move(other));
  EXPECT_EQ(turn(scheduler, 0), "0@0+64!p1 1@0+64!p1");
  EXPECT_EQ(turn(scheduler, 1), "0@64+1!p1");  // the younger finds no page and waits with what it has
  for (int64_t step = 2; step <= 64; ++step)
    EXPECT_EQ(turn(scheduler, step), "0@" + std::to_string(63 + step) + "+1!");
  EXPECT_EQ(scheduler.counters().preemptions, 0);
  EXPECT_EQ(turn(scheduler, 65), "0@128+1!p1");
  EXPECT_EQ(scheduler.counters().preemptions, 1);
  EXPECT_EQ(scheduler.counters().queued, 1);
  for (int64_t step = 66; scheduler.take_finished().empty(); ++step) turn(scheduler, step);
  // Its prompt is run again together with the token drawn before, which is an output as it was.
  const StepMessage again = scheduler.compose(200);
  EXPECT_EQ(show(again), "0@0+65!p2");
  EXPECT_EQ(again.segments[0].start->num_prompt_tokens, 64);
  scheduler.apply(answer(again, 1));
  EXPECT_EQ(scheduler.take_finished().at(0).outputs.at(0).text, "ab");
}

TEST(Scheduler, AnOlderSequenceIsNotPreempted) {
  Scheduler scheduler = make({.max_sequences = 2, .kv_pages = 2, .max_context = 120, .micro_batches = 2});
  scheduler.add(prompt(0, 10));
  scheduler.add(prompt(1, 63));
  turn(scheduler, 0);
  EXPECT_EQ(turn(scheduler, 1), "0@10+1!");
  EXPECT_EQ(turn(scheduler, 2), "1@63+1!");
  EXPECT_EQ(turn(scheduler, 3), "0@11+1!");
  EXPECT_EQ(turn(scheduler, 4), "0@12+1!");  // it is the other's turn, but there is no page for it
  EXPECT_EQ(scheduler.counters().preemptions, 0);
}

TEST(Scheduler, ASequenceInFlightIsNotPreempted) {
  Scheduler scheduler = make({.max_sequences = 2, .kv_pages = 2, .max_context = 120, .micro_batches = 2});
  scheduler.add(prompt(0, 63));
  scheduler.add(prompt(1, 10));
  turn(scheduler, 0);
  const StepMessage older = scheduler.compose(1), younger = scheduler.compose(2);
  EXPECT_EQ(show(older), "0@63+1!");
  EXPECT_EQ(show(younger), "1@10+1!");
  scheduler.apply(answer(older));
  EXPECT_EQ(show(scheduler.compose(3)), "");  // it needs a page, but the younger one's result is due
  EXPECT_EQ(scheduler.counters().preemptions, 0);
  scheduler.apply(answer(younger));
  EXPECT_EQ(show(scheduler.compose(3)), "0@64+1!p1");
  EXPECT_EQ(scheduler.counters().preemptions, 1);
}

TEST(Scheduler, PagesAreNotCountedWithoutAttention) {
  Scheduler scheduler = make({.max_sequences = 2, .kv_pages = 0, .needs_pages = false});
  scheduler.add(prompt(0, 200));
  EXPECT_EQ(turn(scheduler, 0), "0@0+200!");
}

TEST(Scheduler, ScoresTheContinuation) {
  Scheduler scheduler = make({.prefill_chunk = 3});
  scheduler.add(score(4, 3));
  const StepMessage first = scheduler.compose(0), second = scheduler.compose(1);
  EXPECT_TRUE(first.segments[0].targets.empty());
  EXPECT_EQ(show(second), "0@3+3");
  EXPECT_EQ(second.segments[0].targets, (std::vector<int32_t>{0, 1, 2}));
  scheduler.apply(answer(first));
  scheduler.apply(answer(second));
  const Score result = scheduler.take_finished().at(0).score.value();
  EXPECT_EQ(result.sum_logprob, -3);
  EXPECT_TRUE(result.is_greedy);
  EXPECT_EQ(result.token_ids, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(scheduler.counters().output_tokens, 3);
}

TEST(Scheduler, ScoresLongTextInWindows) {
  Scheduler scheduler = make({.max_sequences = 2, .kv_pages = 2, .max_context = 4});
  scheduler.add(score(2, 5));  // tokens 1 1 0 1 2 3 4
  const StepMessage message = scheduler.compose(0);
  EXPECT_EQ(show(message), "0@0+4p1 1@0+4p1");
  EXPECT_EQ(message.segments[0].targets, (std::vector<int32_t>{-1, 0, 1, 2}));
  EXPECT_EQ(message.segments[1].token_ids, (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(message.segments[1].targets, (std::vector<int32_t>{-1, -1, 3, 4}));
  scheduler.apply(answer(message));
  EXPECT_EQ(scheduler.take_finished().at(0).score->logprobs, std::vector<float>(5, -1.0F));
}

struct Refusal {
  const char* name;
  Request request;
  const char* code;
  std::vector<const char*> words;
};

TEST(Scheduler, RefusesWhatCanNeverRun) {
  const Refusal cases[] = {
      {"no prompt", prompt(0, 0), "empty_prompt", {"at least one"}},
      {"no room for an output", prompt(0, 300), "prompt_too_long", {"300", "299"}},
      {"no context", score(0, 2), "empty_context", {"at least one"}},
      {"context too long", score(300, 2), "prompt_too_long", {"300", "299"}},
      {"too many pages", prompt(0, 200, {.max_tokens = 58}), "kv_cache_too_small", {"257", "256", "4 pages"}},
      {"too many pages to score", score(200, 58), "kv_cache_too_small", {"257", "256"}},
  };
  for (const Refusal& c : cases) {
    Scheduler scheduler = make({.kv_pages = 4, .max_context = 299});
    scheduler.add(c.request);
    const std::vector<Record> records = scheduler.take_finished();
    ASSERT_EQ(records.size(), 1U) << c.name;
    ASSERT_TRUE(records[0].error.has_value()) << c.name;
    EXPECT_EQ(records[0].error->code, c.code) << c.name;
    for (const char* word : c.words)
      EXPECT_NE(records[0].error->message.find(word), std::string::npos) << word;
    EXPECT_TRUE(records[0].outputs.empty() && !records[0].score) << c.name;
    EXPECT_TRUE(scheduler.idle()) << c.name;
  }
}

TEST(Scheduler, TakesWhatJustFits) {
  Scheduler scheduler = make({.max_batch_tokens = 512, .kv_pages = 4, .max_context = 299});
  scheduler.add(prompt(0, 200, {.max_tokens = 57}));
  scheduler.add(score(200, 57));
  EXPECT_EQ(turn(scheduler, 0), "0@0+200!p4");
}

TEST(Scheduler, NothingToDoIsDoneAtOnce) {
  Scheduler scheduler = make({});
  scheduler.add(prompt(0, 3, {.max_tokens = 0, .n = 2}));
  scheduler.add(score(3, 0));
  scheduler.add(score(0, 0));
  const std::vector<Record> records = scheduler.take_finished();
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[0].outputs.size(), 2U);
  EXPECT_EQ(records[0].outputs[1].finish_reason, "length");
  EXPECT_EQ(records[1].score.value(), Score{});
  EXPECT_EQ(records[2].score.value(), Score{});
  EXPECT_TRUE(scheduler.idle());
}

TEST(Scheduler, AbandonForgetsAndGoesOn) {
  Scheduler scheduler = make({.max_sequences = 2, .kv_pages = 4});
  for (int64_t i = 0; i < 4; ++i) scheduler.add(prompt(i, 3));
  const StepMessage message = scheduler.compose(0);
  scheduler.abandon();
  EXPECT_FALSE(scheduler.idle());  // a step is in flight
  EXPECT_EQ(show(scheduler.compose(1)), "");
  scheduler.add(prompt(9, 2, {.max_tokens = 1}));
  const StepMessage later = scheduler.compose(1);
  EXPECT_EQ(later.segments.size(), 1U);
  scheduler.apply(answer(message));
  EXPECT_TRUE(scheduler.take_finished().empty());
  scheduler.apply(answer(later));
  EXPECT_EQ(scheduler.take_finished().at(0).id, "9");
  EXPECT_TRUE(scheduler.idle());
}

TEST(Scheduler, WantsItsSlotsAndHalfAsManyInHand) {
  Scheduler scheduler = make({.max_sequences = 4, .kv_pages = 9});
  EXPECT_EQ(scheduler.wanted(), 6);
  scheduler.add(prompt(0, 1, {.n = 5}));
  EXPECT_EQ(scheduler.wanted(), 1);
  scheduler.compose(0);
  EXPECT_EQ(scheduler.wanted(), 1);
  scheduler.add(prompt(1, 1, {.n = 5}));
  EXPECT_EQ(scheduler.wanted(), 0);
  EXPECT_EQ(make({.max_sequences = 1}).wanted(), 2);
}

TEST(Scheduler, RefusesResultsThatDoNotBelong) {
  Scheduler scheduler = make({.max_sequences = 2, .kv_pages = 4});
  scheduler.apply({.step = 0, .segments = {}});  // a step in which only other lanes had rows
  scheduler.add(prompt(0, 3));
  const StepMessage message = scheduler.compose(1);
  EXPECT_THROW(scheduler.apply({.step = 0, .segments = {{.slot = 0}}}), Error);
  EXPECT_THROW(scheduler.apply({.step = 2, .segments = {}}), Error);
  EXPECT_THROW(scheduler.apply({.step = 1, .segments = {}}), Error);
  scheduler.add(prompt(1, 3));
  const StepMessage next = scheduler.compose(2);
  EXPECT_THROW(scheduler.apply({.step = 2, .segments = {{.slot = 0, .sampled = SampledToken{}}}}), Error);
}

TEST(Scheduler, SendsNoStopStringsToTheStages) {
  Scheduler scheduler = make({});
  scheduler.add(prompt(0, 1, {.max_tokens = 10, .stop = {"x"}, .stop_token_ids = {5}}));
  const SamplingKey key = scheduler.compose(0).segments.at(0).start.value();
  EXPECT_TRUE(key.params.stop.empty() && key.params.stop_token_ids.empty());
  EXPECT_EQ(key.end_token_ids, (std::vector<int32_t>{5, kEnd}));
}

// Rebuilding costs rows, not draws: the tokens of an earlier run are prefilled.
TEST(Scheduler, ARequestGoesOnFromItsPriorTokens) {
  Scheduler scheduler = make({.prefill_chunk = 4});
  Request request = prompt(0, 3, {.max_tokens = 5, .n = 3});
  request.prior_outputs = {
      {.token_ids = {5, 6}}, {.text = "x", .token_ids = {7}, .finish_reason = "stop"}, {}};
  scheduler.add(std::move(request));
  EXPECT_EQ(scheduler.counters().queued, 2) << "the second sample is finished";
  EXPECT_EQ(turn(scheduler, 0), "0@0+4p1");
  for (int64_t step = 1; !scheduler.idle(); ++step) turn(scheduler, step);
  const std::vector<Record> records = scheduler.take_finished();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].outputs[0].token_ids, (std::vector<int32_t>{5, 6, 0, 0, 0}));
  EXPECT_EQ(records[0].outputs[1].text, "x");
  EXPECT_EQ(records[0].outputs[2].token_ids.size(), 5u);
  EXPECT_EQ(scheduler.counters().output_tokens, 3 + 5);
}

// Saves of a long output together are a few times its length.
TEST(Scheduler, LongOutputsAreSavedNowAndThen) {
  Scheduler scheduler = make({.kv_pages = 200});
  scheduler.add(prompt(0, 1, {.max_tokens = 4000, .ignore_eos = true}));
  std::vector<size_t> sizes;
  for (int64_t step = 0; !scheduler.idle(); ++step) {
    turn(scheduler, step);
    for (const SampleProgress& saved : scheduler.take_progress(Scheduler::Saving::kWorthwhile)) {
      EXPECT_EQ(saved.index, 0);
      EXPECT_TRUE(saved.output.text.empty());
      sizes.push_back(saved.output.token_ids.size());
    }
  }
  EXPECT_EQ(sizes, (std::vector<size_t>{256, 512, 768, 1024, 1280, 1600, 2000, 2500, 3125, 3906}));
}

}  // namespace
}  // namespace nemo::dist
