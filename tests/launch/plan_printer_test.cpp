#include "launch/plan_printer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/dist/plan/plan_fixtures.h"

namespace nemo::launch {
namespace {

using dist::kGiB;
using dist::Machine;
using dist::machine_of;
using dist::plain_job;
using dist::Plan;
using dist::published_model;

const char* const kPublished[] = {"nemotron-h-4b",
                                  "nemotron-h-56b",
                                  "nano-12b-v2",
                                  "nemotron-3-nano-4b",
                                  "nemotron-3-nano-30b-a3b",
                                  "nemotron-3.5-lightning-30b-a3b",
                                  "nemotron-3-super-120b-a12b",
                                  "nemotron-3-ultra-550b-a55b",
                                  "nemotron-ultra-253b"};

using Print = std::string (*)(const ModelConfig&, const JobConfig&, const Plan&, const Machine&,
                              const Forecast&);

/// What is printed for a plan, with the forecast at assumed rates.
std::string plan_of(const ModelConfig& model, const JobConfig& job, const Machine& machine, Print print) {
  const Plan plan = dist::draft_plan(model, job, machine);
  return print(model, job, plan, machine, make_forecast(model, job, plan, machine, {}, {}));
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << "\nin\n" << text;
}

TEST(PlanText, NeverWiderThanAHundredColumns) {
  for (const char* name : kPublished)
    for (const int64_t num_ranks : {1, 6, 16, 64})
      for (const int64_t gib : {4, 40, 400}) {
        const ModelConfig model = published_model(name);
        const Machine machine = machine_of(num_ranks, gib * kGiB);
        const std::string text = plan_of(model, plain_job(), machine, plan_text);
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
      }
}

TEST(PlanText, TellsWhatPeopleAskFor) {
  const ModelConfig model = published_model("nemotron-3-super-120b-a12b");
  const Machine machine = machine_of(16, 24 * kGiB);
  const JobConfig job = plain_job();
  const std::string text = plan_of(model, job, machine, plan_text);
  for (const char* part :
       {"120,668,707,840", "2,942,325,248 more", "12,233,366,528 a token, output head included",
        "12,770,237,440 with the input embedding too", "16 ranks = 1 replica x 4 stages x 4 expert ranks",
        "lane 3 [384, 512)", "128 of 512", "each of 40 MoE layers", "each of 3 stage borders: 8.00 KiB",
        "assumed, not measured", "limits.memory or --host-memory"})
    expect_contains(text, part);
}

TEST(PlanText, ShowsAPlanThatDoesNotFitAndWhatWould) {
  const ModelConfig model = published_model("nemotron-h-56b");
  JobConfig job = plain_job();
  job.limits.memory_bytes = 16 * kGiB;
  const Machine machine = machine_of(4, 16 * kGiB);
  const std::string text = plan_of(model, job, machine, plan_text);
  for (const char* part :
       {"DOES NOT FIT", "[0, 28)", "more than it has", "7 ranks of this memory", "limits.memory"})
    expect_contains(text, part);
}

TEST(PlanJson, HasWhatProgramsRead) {
  const ModelConfig model = published_model("nemotron-3-nano-30b-a3b");
  const JobConfig job = dist::job_with_layout(2, 3, 4);
  const Machine machine = machine_of(24, 40 * kGiB);
  const Plan plan = dist::make_plan(model, job, machine);
  const auto json = nlohmann::json::parse(plan_of(model, job, machine, plan_json));
  EXPECT_EQ(json["model"], "nemotron-3-nano-30b-a3b");
  EXPECT_EQ(json["total_parameters"], 31577940288);
  EXPECT_EQ(json["active_parameters"], 3227754816);
  EXPECT_EQ(json["active_parameters_with_embedding"], 3580076352);
  EXPECT_EQ(json["fits"], true);
  EXPECT_EQ(json["layout"]["pipeline"], 3);
  ASSERT_EQ(json["ranks"].size(), 24u);
  const auto& rank = json["ranks"][17];  // replica 1, stage 1, lane 1
  EXPECT_EQ(rank["replica"], 1);
  EXPECT_EQ(rank["stage"], 1);
  EXPECT_EQ(rank["lane"], 1);
  EXPECT_EQ(rank["layers"][0], plan.stages[1].layers.begin);
  EXPECT_EQ(rank["experts"], nlohmann::json::array({32, 64}));
  EXPECT_EQ(rank["weight_bytes"], plan.stages[1].weight_bytes[1]);
  EXPECT_EQ(rank["state_bytes_per_sequence"], plan.stages[1].state_bytes_per_sequence);
  EXPECT_EQ(rank["kv_bytes_per_token"], plan.stages[1].kv_bytes_per_token);
  EXPECT_GT(json["wire_bytes_per_token"]["total"], 0);
  EXPECT_EQ(json["fingerprint"], dist::plan_fingerprint(plan));
}

TEST(PlanJson, CountsOfAllPublishedModels) {
  struct Expected {
    const char* name;
    int64_t total, active, active_with_embedding, mtp;
  };
  for (const Expected& expected :
       {Expected{"nemotron-h-4b", 4489223040, 4086569856, 4489223040, 0},
        Expected{"nemotron-h-8b", 8100852736, 7563981824, 8100852736, 0},
        Expected{"nemotron-h-47b", 46791554816, 45717812992, 46791554816, 0},
        Expected{"nemotron-h-56b", 56324350464, 55250608640, 56324350464, 0},
        Expected{"nano-9b-v2", 8888227328, 8301024768, 8888227328, 0},
        Expected{"nano-12b-v2", 12310001152, 11638912512, 12310001152, 0},
        Expected{"nemotron-3-nano-4b", 3973556832, 3562515040, 3973556832, 0},
        Expected{"nemotron-3-nano-30b-a3b", 31577940288, 3227754816, 3580076352, 0},
        Expected{"cascade-2-30b-a3b", 31577940288, 3227754816, 3580076352, 0},
        Expected{"nemotron-3.5-lightning-30b-a3b", 31577940288, 3227754816, 3580076352, 1335325952},
        Expected{"nemotron-3-super-120b-a12b", 120668707840, 12233366528, 12770237440, 2942325248},
        Expected{"nemotron-3-ultra-550b-a55b", 549308993536, 54985101312, 56058843136, 11215610368},
        Expected{"nemotron-ultra-253b", 253157007744, 25379561856, 26184868224, 6514833920}}) {
    const ModelConfig model = published_model(expected.name);
    const Machine machine = machine_of(8, 100 * kGiB);
    const auto json = nlohmann::json::parse(plan_of(model, plain_job(), machine, plan_json));
    EXPECT_EQ(json["total_parameters"], expected.total) << expected.name;
    EXPECT_EQ(json["active_parameters"], expected.active) << expected.name;
    EXPECT_EQ(json["active_parameters_with_embedding"], expected.active_with_embedding) << expected.name;
    EXPECT_EQ(json["mtp_parameters"], expected.mtp) << expected.name;
  }
}

TEST(PlanJson, SaysNullWhereThereIsNothing) {
  ModelConfig model = dist::small_model("EE");
  model.layers[1].n_routed_experts = 32;
  const JobConfig job = dist::job_with_layout(1, 1, 2);
  const Machine machine = machine_of(2, 1 << 10);
  const auto json = nlohmann::json::parse(plan_of(model, job, machine, plan_json));
  EXPECT_EQ(json["fits"], false);
  EXPECT_TRUE(json["smallest_num_ranks"].is_null());
  EXPECT_TRUE(json["ranks"][0]["experts"].is_null());  // its layers differ
  EXPECT_EQ(json["experts"]["1"][1], nlohmann::json::array({16, 32}));
}

TEST(DefaultRanks, AreWhatTheJobFixesOrTheFewestThatFit) {
  const ModelConfig model = published_model("nemotron-3-super-120b-a12b");
  const Machine machine = machine_of(1, 24 * kGiB);
  EXPECT_EQ(default_num_ranks(model, dist::job_with_layout(2, 4, 4), machine), 32);
  EXPECT_EQ(default_num_ranks(model, plain_job(), machine),
            dist::smallest_num_ranks(model, plain_job(), machine));
  JobConfig job = plain_job();
  job.parallel.expert = 8;
  EXPECT_EQ(default_num_ranks(model, job, machine) % 8, 0);
  EXPECT_EQ(default_num_ranks(model, job, machine_of(1, 1 << 20)), 8);
}

TEST(AssumedMachine, TakesTheJobsLimitOverTheHosts) {
  JobConfig job = plain_job();
  EXPECT_GT(assume_machine(job, {}, 3).memory_per_rank, 0);
  EXPECT_GE(assume_machine(job, {}, 3).cores_per_rank, 1);
  job.limits.memory_bytes = 12345;
  EXPECT_EQ(assume_machine(job, {}, 3).memory_per_rank, 12345);
  EXPECT_EQ(assume_machine(job, {}, 3).num_ranks, 3);
}

}  // namespace
}  // namespace nemo::launch
