// Whatever the limits and the order of events, every request gets the answer that it would get alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "dist/schedule/scheduler.h"
#include "lib/sampling/completion.h"
#include "lib/sampling/score_windows.h"
#include "tests/dist/schedule/fake_lane.h"

namespace nemo::dist {
namespace {

using nemo::testing::kEnd;
using nemo::testing::letter_tokenizer;
using testing::FakeLane;

const std::vector<int32_t> kEos = {kEnd};

using Random = std::mt19937;

int64_t between(Random& random, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
}

std::vector<int32_t> random_tokens(Random& random, int64_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 26);
  return tokens;
}

/// Half of all prompts begin like others, as far as one of a few places.
std::vector<int32_t> random_prompt(Random& random, int64_t count) {
  std::vector<int32_t> tokens = random_tokens(random, count);
  const int64_t alike[] = {0, 15, 40, 100};
  const int64_t num_alike = std::min(count, random() % 2 ? alike[random() % 4] : 0);
  for (int64_t i = 0; i < num_alike; ++i) tokens[static_cast<size_t>(i)] = static_cast<int32_t>(i * i % 26);
  return tokens;
}

SchedulerLimits random_limits(Random& random) {
  const int64_t chunks[] = {1, 7, 128};
  SchedulerLimits limits;
  limits.max_sequences = between(random, 1, 8);
  limits.prefill_chunk = chunks[random() % 3];
  limits.max_batch_tokens = between(random, 1, 3) * limits.prefill_chunk;
  limits.kv_pages = between(random, 4, 10);  // four hold one longest sequence
  limits.needs_pages = random() % 4 != 0;
  limits.max_context = between(random, 60, 250);
  limits.micro_batches = between(random, 1, 4);
  return limits;
}

Request random_request(Random& random, int64_t index, int64_t max_context) {
  Request request;
  request.index = index;
  request.id = "request " + std::to_string(index);
  if (random() % 4 == 0) {
    request.task = Task::kScore;
    request.prompt_ids = random_prompt(random, between(random, 1, random() % 2 ? 5 : max_context));
    request.continuation_ids = random_tokens(random, between(random, 0, 2 * max_context));
    return request;
  }
  request.prompt_ids = random_prompt(random, between(random, 1, random() % 2 ? 5 : max_context - 1));
  request.sampling.max_tokens = between(random, 0, random() % 2 ? 8 : max_context);
  request.sampling.n = random() % 3 == 0 ? between(random, 2, 5) : 1;
  request.sampling.ignore_eos = random() % 2 == 0;
  if (random() % 3 == 0) request.sampling.presence_penalty = 0.5;
  request.sampling.logprobs = random() % 2 == 0 ? 1 : 0;
  if (random() % 3 == 0) request.sampling.stop = {"a", "bcd"};
  if (random() % 3 == 0) request.sampling.stop_token_ids = {7};
  if (random() % 3 == 0) request.sampling.min_tokens = between(random, 0, request.sampling.max_tokens);
  return request;
}

// Outputs that grow to the end: what pages run out for.
Request growing_request(Random& random, int64_t index, int64_t max_context) {
  Request request;
  request.index = index;
  request.id = "request " + std::to_string(index);
  request.prompt_ids = random_tokens(random, between(random, 1, 20));
  request.sampling.max_tokens = between(random, max_context / 2, max_context);
  request.sampling.n = between(random, 1, 2);
  request.sampling.ignore_eos = true;
  return request;
}

Output sequential_output(const Request& request, int64_t sample, int64_t max_context) {
  Completion completion(make_sampling_key(request, sample, kEos), max_context, letter_tokenizer());
  std::vector<int32_t> tokens = request.prompt_ids;
  while (completion.status() == CompletionStatus::kRunning) {
    const SampledToken drawn = testing::draw(tokens, hash_request_id(request.id), sample);
    tokens.push_back(drawn.token_id);
    completion.push(drawn);
  }
  return completion.take();
}

Score sequential_score(const Request& request, int64_t max_context) {
  Score score;
  score.token_ids = request.continuation_ids;
  if (request.continuation_ids.empty()) return score;
  std::vector<int32_t> text = request.prompt_ids;
  text.insert(text.end(), request.continuation_ids.begin(), request.continuation_ids.end());
  for (const ScoreWindow& window :
       score_windows(static_cast<int64_t>(request.prompt_ids.size()),
                     static_cast<int64_t>(request.continuation_ids.size()), max_context)) {
    for (int64_t i = window.first_predicted; i < window.end; ++i) {
      const std::vector<int32_t> seen(text.begin() + window.begin, text.begin() + i);
      const int32_t target = text[static_cast<size_t>(i)];
      score.logprobs.push_back(testing::target_logprob(seen, target));
      score.sum_logprob += score.logprobs.back();
      score.is_greedy = score.is_greedy && testing::target_is_argmax(seen, target);
    }
  }
  return score;
}

Record sequential_answer(const Request& request, int64_t max_context) {
  Record record;
  record.index = request.index;
  record.id = request.id;
  record.task = request.task;
  record.num_prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  if (request.task == Task::kScore) {
    record.score = sequential_score(request, max_context);
    return record;
  }
  for (int64_t sample = 0; sample < request.sampling.n; ++sample) {
    record.outputs.push_back(sequential_output(request, sample, max_context));
  }
  return record;
}

// Requests come when the lane wants them, or all at once; steps come back early or late.
class Driver {
 public:
  Driver(const SchedulerLimits& limits, uint32_t seed)
      : limits_(limits), random_(seed), lane_(limits), scheduler_(limits, {kEos}, letter_tokenizer()) {}

  /// To the end, or for `most_turns`.
  std::map<int64_t, Record> run(const std::vector<Request>& requests, int64_t most_turns = INT64_MAX) {
    const bool all_at_once = random_() % 2 == 0;
    size_t num_added = 0;
    for (int64_t i = 0; i < most_turns && (num_added < requests.size() || !scheduler_.idle()); ++i) {
      while (num_added < requests.size() && (all_at_once || scheduler_.wanted() > 0)) {
        scheduler_.add(requests[num_added++]);
      }
      turn();
      for (Record& record : scheduler_.take_finished()) {
        testing::require(records_.emplace(record.index, record).second, "a record came twice");
      }
      testing::require(step_ < 2000000, "it does not end");
    }
    return std::move(records_);
  }

  Scheduler& scheduler() { return scheduler_; }
  const FakeLane& lane() const { return lane_; }

 private:
  void turn() {
    if (static_cast<int64_t>(results_.size()) < limits_.micro_batches && random_() % 4 != 0) {
      const StepMessage message = scheduler_.compose(step_);
      testing::require(!message.segments.empty() || !results_.empty() || scheduler_.idle(), "it is stuck");
      // A lane without rows still takes part in some steps, because other lanes have rows.
      if (message.segments.empty() && random_() % 2 == 0) return;
      results_.push_back(lane_.run(message));
      ++step_;
    } else if (!results_.empty()) {
      scheduler_.apply(results_.front());
      results_.pop_front();
    }
  }

  SchedulerLimits limits_;
  Random random_;
  FakeLane lane_;
  Scheduler scheduler_;
  std::deque<StepResult> results_;
  std::map<int64_t, Record> records_;
  int64_t step_ = 0;
};

TEST(SchedulerProperty, EveryRequestGetsTheAnswerItWouldGetAlone) {
  int64_t num_preemptions = 0, num_forks = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const SchedulerLimits limits = random_limits(random);
    std::vector<Request> requests;
    for (int64_t i = 0; i < 12; ++i) {
      const bool grows = seed % 3 == 0 || (seed % 3 == 1 && i % 2 == 0);
      requests.push_back(grows ? growing_request(random, i, limits.max_context)
                               : random_request(random, i, limits.max_context));
    }
    Driver driver(limits, seed);
    const std::map<int64_t, Record> records = driver.run(requests);
    ASSERT_EQ(records.size(), requests.size()) << "seed " << seed;
    for (const Request& request : requests) {
      ASSERT_TRUE(records.at(request.index) == sequential_answer(request, limits.max_context))
          << "seed " << seed << ", " << request.id;
    }
    const Scheduler::Counters counters = driver.scheduler().counters();
    ASSERT_EQ(counters.running + counters.queued, 0) << "seed " << seed;
    num_preemptions += counters.preemptions;
    num_forks += driver.lane().num_forks();
  }
  EXPECT_GT(num_preemptions, 300);  // else the limits above test nothing of it
  EXPECT_GT(num_forks, 200);
}

// What was saved of a request, at whatever moment, on whatever lane, its next run goes on from.
TEST(SchedulerProperty, InterruptedRequestsGetTheSameAnswer) {
  int64_t num_unfinished = 0, num_finished = 0;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    SchedulerLimits limits = random_limits(random);
    const int64_t max_context = limits.max_context;
    std::vector<Request> requests;
    for (int64_t i = 0; i < 8; ++i)
      requests.push_back(seed % 2 == 0 ? growing_request(random, i, max_context)
                                       : random_request(random, i, max_context));
    std::vector<Request> left = requests;
    std::map<int64_t, Record> records;
    for (int64_t run = 0; run < 4; ++run) {
      Driver driver(limits, seed + static_cast<uint32_t>(run));
      records.merge(driver.run(left, run < 3 ? between(random, 1, 400) : INT64_MAX));
      std::erase_if(left, [&](const Request& request) { return records.contains(request.index); });
      for (SampleProgress& saved : driver.scheduler().take_progress(Scheduler::Saving::kEverything)) {
        (saved.output.finish_reason.empty() ? num_unfinished : num_finished) += 1;
        const auto request = std::ranges::find(left, saved.index, &Request::index);
        ASSERT_TRUE(request != left.end());
        request->prior_outputs.resize(static_cast<size_t>(request->sampling.n));
        request->prior_outputs[static_cast<size_t>(saved.sample)] = std::move(saved.output);
      }
      limits = random_limits(random);
      limits.max_context = max_context;
    }
    ASSERT_EQ(records.size(), requests.size()) << "seed " << seed;
    for (const Request& request : requests)
      ASSERT_TRUE(records.at(request.index) == sequential_answer(request, max_context))
          << "seed " << seed << ", " << request.id;
  }
  EXPECT_GT(num_unfinished, 500);
  EXPECT_GT(num_finished, 50);
}

// Enough of everything to see quadratic behaviour as a timeout.
TEST(SchedulerProperty, ThousandsOfSequences) {
  SchedulerLimits limits;
  limits.max_sequences = 4096;
  limits.max_batch_tokens = 8192;
  limits.kv_pages = 3000;  // fewer than sequences
  limits.micro_batches = 4;
  Random random(1);
  std::vector<Request> requests;
  for (int64_t i = 0; i < 6000; ++i) {
    Request& request = requests.emplace_back();
    request.index = i;
    request.id = std::to_string(i);
    request.prompt_ids = random_tokens(random, between(random, 50, 70));
    request.sampling.max_tokens = 12;
  }
  Driver driver(limits, 1);
  const std::map<int64_t, Record> records = driver.run(requests);
  ASSERT_EQ(records.size(), requests.size());
  for (size_t i = 0; i < requests.size(); i += 100) {
    ASSERT_TRUE(records.at(static_cast<int64_t>(i)) == sequential_answer(requests[i], limits.max_context))
        << i;
  }
}

}  // namespace
}  // namespace nemo::dist
