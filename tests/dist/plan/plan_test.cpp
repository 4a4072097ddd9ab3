#include "dist/plan/plan.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "dist/plan/layout_search.h"
#include "kernels/error.h"
#include "kernels/ops/attention.h"
#include "tests/dist/plan/plan_fixtures.h"

namespace nemo::dist {
namespace {

/// What every plan must keep to.
void expect_sound(const ModelConfig& model, const Machine& machine, const Plan& plan) {
  ASSERT_EQ(plan.layout.num_ranks(), machine.num_ranks);
  ASSERT_EQ(static_cast<int64_t>(plan.stages.size()), plan.layout.pipeline);
  int64_t next_layer = 0;
  for (const StagePlan& stage : plan.stages) {
    EXPECT_EQ(stage.layers.begin, next_layer);
    EXPECT_GT(stage.layers.end, stage.layers.begin);
    next_layer = stage.layers.end;
    ASSERT_EQ(static_cast<int64_t>(stage.weight_bytes.size()), plan.layout.expert);
  }
  EXPECT_EQ(next_layer, model.num_layers());
  for (int64_t i = 0; i < model.num_layers(); ++i) {
    const auto layer = static_cast<size_t>(i);
    const LayerRange& range = plan.stages[static_cast<size_t>(plan.stage_of_layer(i))].layers;
    EXPECT_TRUE(range.begin <= i && i < range.end);
    int64_t next_expert = 0;
    for (const kernels::ExpertRange& block : plan.experts[layer]) {
      EXPECT_EQ(block.begin, next_expert);
      EXPECT_GT(block.end, block.begin);
      next_expert = block.end;
    }
    EXPECT_EQ(next_expert,
              model.layers[layer].kind == LayerKind::kMoe ? model.layers[layer].n_routed_experts : 0);
  }
  std::set<std::tuple<int64_t, int64_t, int64_t>> positions;
  for (int64_t rank = 0; rank < machine.num_ranks; ++rank) {
    const Position at = plan.position(rank);
    EXPECT_EQ(plan.rank(at), rank);
    positions.insert({at.replica, at.stage, at.lane});
  }
  EXPECT_EQ(static_cast<int64_t>(positions.size()), machine.num_ranks);

  ASSERT_TRUE(plan.fits());
  EXPECT_GE(plan.max_batch_tokens, plan.max_sequences);
  EXPECT_GE(plan.max_batch_tokens, plan.prefill_chunk);
  EXPECT_GE(plan.prefill_chunk, 1);
  EXPECT_GE(plan.kv_pages * kernels::kKvPageTokens, plan.typical_context);
  EXPECT_LE(plan.least_bytes, machine.memory_per_rank);
  for (int64_t stage = 0; stage < plan.layout.pipeline; ++stage)
    for (int64_t lane = 0; lane < plan.layout.expert; ++lane)
      EXPECT_LE(plan.rank_bytes(stage, lane), machine.memory_per_rank);
}

std::string refusal(const ModelConfig& model, const JobConfig& job, const Machine& machine) {
  try {
    make_plan(model, job, machine);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadJob);
    return error.what();
  }
  ADD_FAILURE() << "no refusal";
  return "";
}

TEST(Plan, EveryLayoutOfTheSmallModelUpTo64Ranks) {
  const ModelConfig model = small_model();
  for (int64_t num_ranks = 1; num_ranks <= 64; ++num_ranks) {
    expect_sound(model, machine_of(num_ranks), make_plan(model, plain_job(), machine_of(num_ranks)));
    int64_t num_layouts = 0;
    for (int64_t replicas = 1; replicas <= num_ranks; ++replicas)
      for (int64_t pipeline = 1; replicas * pipeline <= num_ranks; ++pipeline) {
        if (num_ranks % (replicas * pipeline) != 0 || pipeline > model.num_layers()) continue;
        const int64_t expert = num_ranks / replicas / pipeline;
        const Plan plan =
            make_plan(model, job_with_layout(replicas, pipeline, expert), machine_of(num_ranks));
        EXPECT_EQ(plan.layout, (Layout{.replicas = replicas, .pipeline = pipeline, .expert = expert}));
        expect_sound(model, machine_of(num_ranks), plan);
        ++num_layouts;
      }
    EXPECT_EQ(num_layouts, static_cast<int64_t>(possible_layouts(model, {}, num_ranks).size()));
  }
}

TEST(Plan, RandomModelsWorldsAndMemories) {
  std::mt19937 random(5);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  int num_sound = 0, num_drafts = 0;
  for (int round = 0; round < 300; ++round) {
    const ModelConfig model = random_model(random);
    const Machine machine = machine_of(pick(1, 24), pick(1, 40) << 20, pick(1, 8));
    if (possible_layouts(model, {}, machine.num_ranks).empty()) continue;
    const Plan plan = draft_plan(model, plain_job(), machine);
    if (plan.fits()) {
      expect_sound(model, machine, plan);
      ++num_sound;
      continue;
    }
    ++num_drafts;
    EXPECT_GT(plan.least_bytes, machine.memory_per_rank);
    EXPECT_EQ(plan.kv_pages, 0);
    EXPECT_NE(refusal(model, plain_job(), machine).find("does not fit"), std::string::npos);
  }
  EXPECT_GT(num_sound, 50);
  EXPECT_GT(num_drafts, 20);
}

TEST(Plan, TheSmallestNumberOfRanksFitsAndOneLessDoesNot) {
  for (const char* name : {"nemotron-3-nano-30b-a3b", "nemotron-3-super-120b-a12b",
                           "nemotron-3-ultra-550b-a55b", "nemotron-h-56b", "nano-9b-v2"})
    for (const int64_t gib : {14, 24, 40, 80}) {
      const ModelConfig model = published_model(name);
      Machine machine = machine_of(1, gib * kGiB);
      const std::optional<int64_t> smallest = smallest_num_ranks(model, plain_job(), machine);
      ASSERT_TRUE(smallest) << name << gib;
      machine.num_ranks = *smallest;
      EXPECT_TRUE(draft_plan(model, plain_job(), machine).fits()) << name << gib;
      if (*smallest == 1) continue;
      machine.num_ranks = *smallest - 1;
      EXPECT_FALSE(draft_plan(model, plain_job(), machine).fits()) << name << gib;
    }
}

TEST(Plan, NoNumberOfRanksHelpsWhereOneLayerIsTooLarge) {
  const ModelConfig model = published_model("nemotron-h-56b");
  EXPECT_FALSE(smallest_num_ranks(model, plain_job(), machine_of(1, kGiB)));
  EXPECT_NE(refusal(model, plain_job(), machine_of(8, kGiB)).find("no number of ranks"), std::string::npos);
}

TEST(Plan, MoreMemoryIsNeverSlowerAndNeverHoldsLess) {
  const ModelConfig model = small_model();
  JobConfig job = job_with_layout(1, 2, 4);
  job.engine.max_batch_tokens = 256;  // or slots are given up for longer steps where that pays
  Plan before = draft_plan(model, job, machine_of(8, 0));
  EXPECT_FALSE(before.fits());
  for (int64_t mib = 4; mib <= 512; mib += 4) {
    Plan plan = draft_plan(model, job, machine_of(8, mib << 20));
    EXPECT_GE(plan.tokens_per_s, before.tokens_per_s);
    EXPECT_GE(plan.max_sequences, before.max_sequences);
    before = std::move(plan);
  }
  EXPECT_EQ(before.max_sequences, 256);
  EXPECT_EQ(before.kv_pages, 256 * 2048 / kernels::kKvPageTokens);  // all at full length; more would be waste
}

TEST(Plan, AMixedModelWithoutAttentionNeedsNoPages) {
  const ModelConfig model = small_model("MEME");
  const Plan plan = make_plan(model, job_with_layout(1, 2, 2), machine_of(4, 32 << 20));
  EXPECT_EQ(plan.stages[0].kv_bytes_per_token, 0);
  expect_sound(model, machine_of(4, 32 << 20), plan);
}

TEST(Plan, ThousandsOfRanksAreDividedWithBoundedWork) {
  const ModelConfig model = published_model("nemotron-3-ultra-550b-a55b");
  for (const int64_t num_ranks : {3600, 4096}) {
    SearchWork work;
    const auto candidates = search_layouts(model, plain_job(), machine_of(num_ranks, 80 * kGiB, 8), &work);
    EXPECT_EQ(work.num_layouts, static_cast<int64_t>(candidates.size()));
    // Each layout is cut at most six times, a cut examines at most 5 L^2 ranges.
    EXPECT_LE(work.num_ranges, work.num_layouts * 6 * 5 * 108 * 108);
  }
}

TEST(Plan, KeepsAnExpertGroupOnOneHost) {
  const ModelConfig model = published_model("nemotron-3-super-120b-a12b");
  const Plan plan = make_plan(model, plain_job(), machine_of(64, 40 * kGiB, 8));
  EXPECT_EQ(8 % plan.layout.expert, 0) << plan.layout.expert;
}

TEST(Plan, EquallyFastLayoutsGoToTheOneThatTalksLeast) {
  const Plan plan = make_plan(small_model(), plain_job(), machine_of(16, kGiB, 16));
  EXPECT_EQ(plan.layout, (Layout{.replicas = 16, .pipeline = 1, .expert = 1}));
}

TEST(Plan, DenseModelsUseStagesOnlyAsFarAsMemoryAsksFor) {
  const ModelConfig model = published_model("nano-9b-v2");
  const Plan roomy = make_plan(model, plain_job(), machine_of(8, 100 * kGiB));
  EXPECT_EQ(roomy.layout.replicas, 8);
  const Plan tight = make_plan(model, plain_job(), machine_of(8, 12 * kGiB));
  EXPECT_EQ(tight.layout.expert, 1);
  EXPECT_GT(tight.layout.pipeline, 1);
}

TEST(Plan, FingerprintTellsPlansApart) {
  const ModelConfig model = small_model();
  std::set<std::string> fingerprints;
  const std::string first = plan_fingerprint(make_plan(model, job_with_layout(1, 4, 4), machine_of(16)));
  EXPECT_EQ(first, plan_fingerprint(make_plan(model, job_with_layout(1, 4, 4), machine_of(16))));
  fingerprints.insert(first);
  fingerprints.insert(plan_fingerprint(make_plan(model, job_with_layout(2, 2, 4), machine_of(16))));
  fingerprints.insert(plan_fingerprint(make_plan(model, job_with_layout(1, 4, 4), machine_of(16, 20 << 20))));
  JobConfig job = job_with_layout(1, 4, 4);
  job.engine.prefill_chunk = 64;
  fingerprints.insert(plan_fingerprint(make_plan(model, job, machine_of(16))));
  EXPECT_EQ(fingerprints.size(), 4u);
}

TEST(Plan, FixedEngineSizesAreKept) {
  JobConfig job = plain_job();
  job.engine = {.max_sequences = 7, .max_batch_tokens = 40, .prefill_chunk = 11};
  job.parallel.threads = 3;
  const Plan plan = make_plan(small_model(), job, machine_of(2));
  EXPECT_EQ(plan.max_sequences, 7);
  EXPECT_EQ(plan.max_batch_tokens, 40);
  EXPECT_EQ(plan.prefill_chunk, 11);
  EXPECT_EQ(plan.threads, 3);

  job.engine = {.max_sequences = 1000};
  EXPECT_GE(make_plan(small_model(), job, machine_of(2)).max_batch_tokens, 1000);
  job.engine = {.max_batch_tokens = 5};
  EXPECT_EQ(make_plan(small_model(), job, machine_of(2)).max_sequences, 5);
  EXPECT_EQ(make_plan(small_model(), job, machine_of(2)).prefill_chunk, 5);
}

TEST(Plan, DeepPipelinesGetEnoughSequencesToFillThem) {
  const ModelConfig model = small_model(std::string(60, 'M'));
  const Plan plan = make_plan(model, job_with_layout(1, 60, 1), machine_of(60));
  EXPECT_GE(plan.max_sequences, 60);
}

TEST(PlanRefusal, SaysWhyAndWhatIsNear) {
  const ModelConfig model = small_model();  // 14 layers, 64 experts
  const auto says = [&](const ModelConfig& of, const JobConfig& job, int64_t num_ranks,
                        std::vector<std::string> parts) {
    const std::string what = refusal(of, job, machine_of(num_ranks));
    for (const std::string& part : parts)
      EXPECT_NE(what.find(part), std::string::npos) << part << "\n" << what;
  };
  JobConfig job = plain_job();
  job.parallel.pipeline = 20;
  says(model, job, 20, {"job.yaml: parallel.pipeline", "20 stages for 14 layers", "2 x 10 x 1"});
  job = plain_job();
  job.parallel.expert = 65;
  says(model, job, 65, {"parallel.expert", "65 expert ranks for 64 routed experts", "nearest with 65 ranks"});
  says(model, job_with_layout(1, 3, 5), 16,
       {"makes 15 ranks, but there are 16", "start 15 ranks", "1 x 4 x 4"});
  job = plain_job();
  job.parallel.pipeline = 3;
  says(model, job, 16, {"pipeline 3 does not divide 16 ranks", "start 15 ranks"});
  job.parallel.pipeline = 0;
  says(model, job, 16, {"parallel.pipeline", "at least 1, not 0"});
  says(small_model("M-*-"), job_with_layout(1, 1, 2), 2, {"no mixture-of-experts", "parallel.replicas"});
  job = plain_job();
  job.parallel.replicas = 1;
  says(small_model("M-*-"), job, 17, {"leaves 17 ranks", "4 layers", "17 x 1 x 1"});
}

TEST(PlanRefusal, EngineSizesThatContradictEachOther) {
  const auto what = [](EngineConfig engine) {
    JobConfig job = plain_job();
    job.engine = engine;
    return refusal(small_model(), job, machine_of(2));
  };
  EXPECT_NE(what({.max_batch_tokens = 0}).find("engine.max_batch_tokens: must be between 1"),
            std::string::npos);
  EXPECT_NE(what({.max_sequences = -1}).find("engine.max_sequences"), std::string::npos);
  EXPECT_NE(what({.prefill_chunk = int64_t{1} << 40}).find("engine.prefill_chunk"), std::string::npos);
  EXPECT_NE(what({.max_sequences = 9, .max_batch_tokens = 8}).find("one token of every sequence"),
            std::string::npos);
  EXPECT_NE(what({.max_batch_tokens = 8, .prefill_chunk = 9}).find("one chunk"), std::string::npos);
}

TEST(PlanRefusal, FixedSequencesThatDoNotFit) {
  JobConfig job = plain_job();
  job.engine.max_sequences = 100000;
  const std::string what = refusal(small_model(), job, machine_of(2));
  EXPECT_NE(what.find("does not fit"), std::string::npos) << what;
  EXPECT_NE(what.find("100000 sequences"), std::string::npos) << what;
}

}  // namespace
}  // namespace nemo::dist
