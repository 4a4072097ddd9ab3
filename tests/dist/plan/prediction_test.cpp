#include "dist/plan/prediction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

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

/// Cores of `machine` shared by all its ranks, on one host.
Machine crowded(int64_t num_ranks, int64_t cores) {
  return {.num_ranks = num_ranks,
          .ranks_per_host = num_ranks,
          .memory_per_rank = 100 * kGiB,
          .cores_per_rank = 1,
          .oversubscribed_cores = cores};
}

TEST(Prediction, AStageThatWaitsLeavesItsCoreToAnother) {
  const ModelConfig model = published_model("nano-9b-v2");
  const Rates rates = with_free_network();
  const auto predicted = [&](const Machine& machine) {
    return predict_job(model, fixed_job(1, machine.num_ranks, 1), machine, rates).prefill;
  };
  // Eight stages in turns on one core: a step takes all that all of them compute, however they divide it.
  const PhasePrediction turns = predicted(crowded(8, 1));
  double all_work = 0;
  for (const StepTime& stage : turns.stage_times) all_work += stage.computing();
  EXPECT_EQ(turns.interval.limit, Limit::kCores);
  EXPECT_DOUBLE_EQ(turns.interval.seconds, all_work);
  // Two cores share the same work; a core for every stage: the slowest one's own time.
  EXPECT_NEAR(predicted(crowded(8, 2)).interval.seconds, all_work / 2, all_work * 1e-9);
  const PhasePrediction free = predicted(crowded(8, 8));
  EXPECT_EQ(free.interval.limit, Limit::kSlowestStage);
  EXPECT_EQ(free.interval.seconds, free.slowest().total());
  // One core less holds up nobody, as long as the slowest stage is busy longer than the others together need.
  const PhasePrediction slow = predicted(crowded(8, 7));
  EXPECT_DOUBLE_EQ(slow.interval.seconds, std::max(slow.slowest().total(), all_work / 7));
}

TEST(Prediction, ManyRanksOnAHostAreNoSlowerThanOneOfAllItsCores) {
  // The same two cores, with and without a pipeline: the work is the same, and a pipeline only divides it.
  const ModelConfig model = published_model("nano-9b-v2");
  const Rates rates = with_free_network();
  JobConfig job = fixed_job(2, 1, 1);
  const double replicas = predict_job(model, job, crowded(2, 2), rates).prefill.tokens_per_s;
  job = fixed_job(2, 4, 1);
  const double turns = predict_job(model, job, crowded(8, 2), rates).prefill.tokens_per_s;
  EXPECT_NEAR(turns / replicas, 1, 0.01);
}

TEST(Prediction, FewSequencesLeaveStagesWithoutWork) {
  const ModelConfig model = published_model("nano-9b-v2");
  JobConfig job = fixed_job(1, 4, 1);
  job.engine.max_sequences = 1;
  const PhasePrediction lonely =
      predict_job(model, job, machine_of(4, 100 * kGiB), with_free_network()).decode;
  double sum = 0;
  for (const StepTime& stage : lonely.stage_times) sum += stage.total();
  EXPECT_EQ(lonely.interval.limit, Limit::kStepsAtOnce);
  EXPECT_DOUBLE_EQ(lonely.tokens_per_s, 1 / sum);
}

TEST(Prediction, Fp8KeysHaveTheirOwnRate) {
  const ModelConfig model = published_model("nano-9b-v2");
  const Machine machine = machine_of(1, 100 * kGiB);
  const auto seconds_of = [&](KvCacheType kept, Rate rate) {
    Rates rates = reading_only(kInfinitelyFast);
    rates.host.runs.front()[rate] = 1e9;
    JobConfig job = fixed_job(1, 1, 1);
    job.engine.kv_cache_dtype = kept;
    return predict_job(model, job, machine, rates).decode.slowest()[Resource::kSequences];
  };
  // Of each of 32 sequences, a row sees 1024 + 256 / 2 tokens in 4 attention layers of 40 heads of 128; a
  // token takes 4 operations a head and dimension. The machine has 4 cores of 1e9 operations a second.
  const double operations = 32.0 * (1024 + 128) * 4 * 40 * 128 * 4;
  EXPECT_NEAR(seconds_of(KvCacheType::kFp8, Rate::kAttentionDecodeFp8), operations / 4e9, 1e-6);
  EXPECT_NEAR(seconds_of(KvCacheType::kAuto, Rate::kAttentionDecode), operations / 4e9, 1e-6);
  EXPECT_LT(seconds_of(KvCacheType::kFp8, Rate::kAttentionDecode), 1e-6);
  EXPECT_LT(seconds_of(KvCacheType::kAuto, Rate::kAttentionDecodeFp8), 1e-6);
}

TEST(BusiestLane, HasMoreThanTheMeanWhereFewRowsAreRouted) {
  EXPECT_EQ(busiest_lane(16, 6, 128, 1), 1);  // who has all the experts gets all the rows
  // Two lanes, 24 rows that choose 1 of 4 experts: variance of a share 1 / 24, logarithm 1/2, 2 * 1/2 / 24.
  EXPECT_DOUBLE_EQ(busiest_lane(24, 1, 4, 2), 1 + std::sqrt(1.0 / 24));
  EXPECT_EQ(busiest_lane(0.001, 1, 128, 64), 64);  // no more than all of them
  EXPECT_EQ(busiest_lane(16, 8, 8, 4), 1);         // every row goes to every expert
  for (int64_t lanes = 2; lanes <= 128; lanes *= 2) {
    EXPECT_GT(busiest_lane(64, 6, 128, lanes), busiest_lane(64, 6, 128, lanes / 2)) << lanes;
    EXPECT_GT(busiest_lane(64, 6, 128, lanes), busiest_lane(65, 6, 128, lanes)) << lanes;
    EXPECT_NEAR(busiest_lane(1e12, 6, 128, lanes), 1, 1e-4) << lanes;
    EXPECT_LE(busiest_lane(1, 1, 128, lanes), static_cast<double>(lanes));
  }
}

TEST(BusiestLane, IsWhatRandomRoutingGives) {
  // Rows choose 6 of 128 experts, 16 times: the mean over 1000 layers of the busiest lane's share.
  constexpr int64_t kRows = 16, kTopK = 6, kNumExperts = 128;
  std::mt19937 random(7);
  std::vector<int64_t> experts(kNumExperts);
  std::iota(experts.begin(), experts.end(), 0);
  for (const int64_t lanes : {2, 8, 32}) {
    double sum = 0;
    for (int layer = 0; layer < 1000; ++layer) {
      std::vector<int64_t> routed(static_cast<size_t>(lanes));
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t k = 0; k < kTopK; ++k) {
          const auto other = std::uniform_int_distribution<int64_t>(k, kNumExperts - 1)(random);
          std::swap(experts[static_cast<size_t>(k)], experts[static_cast<size_t>(other)]);
          ++routed[static_cast<size_t>(experts[static_cast<size_t>(k)] * lanes / kNumExperts)];
        }
      sum += static_cast<double>(*std::ranges::max_element(routed));
    }
    const double share = sum / 1000 / static_cast<double>(kRows * kTopK) * static_cast<double>(lanes);
    const double predicted = busiest_lane(kRows, kTopK, kNumExperts, lanes);
    EXPECT_GT(predicted - 1, 1.0 * (share - 1)) << lanes;
    EXPECT_LT(predicted - 1, 1.3 * (share - 1)) << lanes;
  }
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
        const double transfer = time[Resource::kTransfer];
        slowest = std::max({slowest, sum - transfer, transfer});
      }
      EXPECT_DOUBLE_EQ(slowest, phase->slowest().occupied());
      EXPECT_NEAR(phase->tokens_per_s * slowest / phase->rows_per_step, 1, 1e-9) << name;
    }
  }
}

}  // namespace
}  // namespace nemo::dist
