#include "dist/plan/prediction.h"

#include <gtest/gtest.h>

#include "tests/dist/plan/plan_fixtures.h"

namespace nemo::dist {
namespace {

constexpr double kInfinitelyFast = 1e30;
constexpr Traffic kTraffic{.prompt_tokens = 1024, .output_tokens = 256};

/// A host whose cores do nothing but read, each `bytes_per_s`; messages cost nothing.
Rates reading_only(double bytes_per_s) {
  Rates rates;
  KernelRates& core = rates.host.runs.front();
  core.rates.fill(kInfinitelyFast);
  core[Rate::kReadBytes] = bytes_per_s;
  for (size_t i = 0; i < kNumWeightFormats; ++i) {
    const double seconds = bytes_per_weight(static_cast<kernels::WeightFormat>(i)) / bytes_per_s;
    core.products[i] = core.experts[i] = {.rows = {1, 2}, .seconds_per_weight = {seconds, seconds}};
  }
  rates.host.host_message = rates.network = {.latency_s = 0, .bytes_per_s = kInfinitelyFast};
  return rates;
}

Rates with_free_network() {
  Rates rates;
  rates.host.host_message = rates.network = {.latency_s = 0, .bytes_per_s = kInfinitelyFast};
  return rates;
}

Prediction predict_job(const ModelConfig& model, const JobConfig& job, const Machine& machine,
                       const Rates& rates) {
  return predict(model, job, make_plan(model, job, machine), machine, kTraffic, rates);
}

JobConfig fixed_job(int64_t replicas, int64_t pipeline, int64_t expert) {
  JobConfig job = job_with_layout(replicas, pipeline, expert);
  job.engine = {.max_sequences = 32, .max_batch_tokens = 512, .prefill_chunk = 256};
  return job;
}

const char* const kModels[] = {"nemotron-3-nano-30b-a3b", "nemotron-3-super-120b-a12b", "nano-9b-v2",
                               "nemotron-3-ultra-550b-a55b"};

TEST(Prediction, TwiceTheBandwidthIsTwiceTheSpeedWhereMemoryIsAllThatCounts) {
  for (const char* name : kModels) {
    const ModelConfig model = published_model(name);
    const Machine machine = machine_of(4, 800 * kGiB);
    const JobConfig job = fixed_job(1, 4, 1);
    const Prediction slow = predict_job(model, job, machine, reading_only(5e9));
    const Prediction fast = predict_job(model, job, machine, reading_only(10e9));
    EXPECT_NEAR(fast.decode.tokens_per_s / slow.decode.tokens_per_s, 2, 1e-9) << name;
    EXPECT_NEAR(fast.prefill.tokens_per_s / slow.prefill.tokens_per_s, 2, 1e-9) << name;
    EXPECT_EQ(slow.decode.slowest().largest(), Resource::kWeights);
  }
}

TEST(Prediction, OneRowReadsTheWeightsOnce) {
  const ModelConfig model = published_model("nano-9b-v2");
  const Machine machine = machine_of(1, 100 * kGiB);
  JobConfig job = fixed_job(1, 1, 1);
  job.engine.max_sequences = 1;
  const Plan plan = make_plan(model, job, machine);
  const Prediction prediction =
      predict(model, job, plan, machine, {.prompt_tokens = 1, .output_tokens = 1}, reading_only(1e9));
  const double embedding_bytes = 2.0 * static_cast<double>(model.vocab_size * model.hidden_size);
  const double bytes = static_cast<double>(plan.stages[0].weight_bytes[0]) - embedding_bytes;
  // Padding of packed matrices, norms and vectors are the difference.
  EXPECT_NEAR(prediction.decode.slowest().total() * 4e9 / bytes, 1, 0.01);
}

TEST(Prediction, MoreRanksAreNeverSlowerWhereMessagesAreFree) {
  const Rates rates = with_free_network();
  for (const char* name : kModels) {
    const ModelConfig model = published_model(name);
    const auto speeds = [&](auto layout_of) {
      std::vector<Prediction> result;
      for (const int64_t n : {1, 2, 4, 8})
        result.push_back(predict_job(model, layout_of(n), machine_of(n, 3000 * kGiB), rates));
      return result;
    };
    const bool has_moe = std::string(name).find("nano-9b") == std::string::npos;
    std::vector<std::vector<Prediction>> families = {speeds([](int64_t n) { return fixed_job(n, 1, 1); }),
                                                     speeds([](int64_t n) { return fixed_job(1, n, 1); })};
    if (has_moe) families.push_back(speeds([](int64_t n) { return fixed_job(1, 1, n); }));
    for (const auto& family : families)
      for (size_t i = 1; i < family.size(); ++i)
        EXPECT_GT(family[i].prefill.tokens_per_s, family[i - 1].prefill.tokens_per_s) << name;
    EXPECT_DOUBLE_EQ(families[0][3].decode.tokens_per_s, 8 * families[0][0].decode.tokens_per_s);
    for (size_t i = 1; has_moe && i < 4; ++i)
      EXPECT_GT(families[2][i].decode.tokens_per_s, families[2][i - 1].decode.tokens_per_s) << name;
  }
}

TEST(Prediction, ASlowNetworkHoldsUpWhatCrossesIt) {
  const ModelConfig model = published_model("nemotron-3-super-120b-a12b");
  const Machine machine = machine_of(4, 800 * kGiB);
  Rates rates;
  rates.network = {.latency_s = 1e-3, .bytes_per_s = 1e4};
  EXPECT_EQ(predict_job(model, fixed_job(1, 1, 4), machine, rates).prefill.slowest().largest(),
            Resource::kExchange);
  EXPECT_EQ(predict_job(model, fixed_job(1, 4, 1), machine, rates).prefill.slowest().largest(),
            Resource::kTransfer);
  const Prediction fast = predict_job(model, fixed_job(1, 1, 4), machine, with_free_network());
  EXPECT_LT(fast.prefill.slowest()[Resource::kExchange], 1e-12);
}

TEST(Prediction, RanksThatShareCoresShareTheirSpeed) {
  const ModelConfig model = published_model("nano-9b-v2");
  const Rates rates = with_free_network();
  const Machine own{.num_ranks = 4, .ranks_per_host = 1, .memory_per_rank = 100 * kGiB, .cores_per_rank = 1};
  Machine shared = own;
  shared.ranks_per_host = 4;
  shared.oversubscribed_cores = 2;
  const JobConfig job = fixed_job(4, 1, 1);
  const double ratio = predict_job(model, job, own, rates).prefill.tokens_per_s /
                       predict_job(model, job, shared, rates).prefill.tokens_per_s;
  EXPECT_NEAR(ratio, 2, 0.01);
}

TEST(Prediction, PartsOfAStepAddUp) {
  for (const char* name : kModels) {
    const ModelConfig model = published_model(name);
    const Prediction prediction = predict_job(model, fixed_job(1, 4, 1), machine_of(4, 800 * kGiB), {});
    for (const PhasePrediction* phase : {&prediction.prefill, &prediction.decode}) {
      double slowest = 0;
      for (const StepTime& time : phase->stage_times) {
        double sum = 0;
        for (const double part : time.seconds) {
          EXPECT_GE(part, 0);
          sum += part;
        }
        EXPECT_DOUBLE_EQ(sum, time.total());
        slowest = std::max(slowest, sum);
      }
      EXPECT_EQ(slowest, phase->slowest().total());
      EXPECT_NEAR(phase->tokens_per_s * slowest / phase->rows_per_step, 1, 1e-9) << name;
    }
  }
}

}  // namespace
}  // namespace nemo::dist
