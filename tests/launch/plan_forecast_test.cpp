#include "launch/plan_forecast.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <sstream>

#include "kernels/error.h"
#include "launch/plan_printer.h"
#include "tests/dist/plan/plan_fixtures.h"

namespace nemo::launch {
namespace {

using dist::kGiB;
using dist::machine_of;
using dist::plain_job;
using dist::published_model;

PlanOptions parsed(std::vector<std::string> arguments) {
  CLI::App app;
  PlanOptions options;
  add_plan_options(app, options);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  app.parse(arguments);
  return options;
}

std::string refusal(const std::string& option, const std::string& value) {
  try {
    parsed({option, value});
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadJob);
    return error.what();
  }
  ADD_FAILURE() << "no refusal of " << option << " " << value;
  return "";
}

TEST(PlanOptions, AreReadWithTheirUnits) {
  const PlanOptions options =
      parsed({"--np", "16,64,4096", "--ranks-per-host", "8", "--host-cores", "96", "--host-memory", "512GiB",
              "--network", "1.5us,100Gbit/s", "--json", "--prompt-tokens", "2000"});
  EXPECT_EQ(options.num_ranks, (std::vector<int64_t>{16, 64, 4096}));
  EXPECT_EQ(options.ranks_per_host, 8);
  EXPECT_EQ(options.cores_per_host, 96);
  EXPECT_EQ(options.host_memory_bytes, 512 * kGiB);
  EXPECT_DOUBLE_EQ(options.network->latency_s, 1.5e-6);
  EXPECT_DOUBLE_EQ(options.network->bytes_per_s, 12.5e9);
  EXPECT_DOUBLE_EQ(parse_network("2ms,300MB/s").bytes_per_s, 300e6);
  EXPECT_EQ(options.prompt_tokens, 2000);
  EXPECT_TRUE(options.json);
  EXPECT_EQ(options.given.size(), 7u);
}

TEST(PlanOptions, RefuseWhatIsNone) {
  for (const auto& [option, value] :
       std::vector<std::pair<std::string, std::string>>{{"--np", "0"},
                                                        {"--np", "-1"},
                                                        {"--np", "16,"},
                                                        {"--np", "16,,64"},
                                                        {"--np", "many"},
                                                        {"--np", "99999999999"},
                                                        {"--ranks-per-host", "0"},
                                                        {"--host-cores", "2.5"},
                                                        {"--host-memory", "much"},
                                                        {"--host-memory", "0"},
                                                        {"--network", "20us"},
                                                        {"--network", "20us,fast"},
                                                        {"--network", "20,2GB/s"},
                                                        {"--network", "0us,2GB/s"},
                                                        {"--network", "20us,2GB"},
                                                        {"--network", "20us,0GB/s"},
                                                        {"--network", ",2GB/s"},
                                                        {"--prompt-tokens", "0"}})
    EXPECT_NE(refusal(option, value).find(option), std::string::npos) << option << " " << value;
}

TEST(AssumedMachine, IsWhatTheOptionsSay) {
  const dist::Machine machine = assume_machine(
      plain_job(), {.ranks_per_host = 4, .cores_per_host = 64, .host_memory_bytes = 400 * kGiB}, 32);
  EXPECT_EQ(machine.num_ranks, 32);
  EXPECT_EQ(machine.ranks_per_host, 4);
  EXPECT_EQ(machine.cores_per_rank, 16);
  EXPECT_EQ(machine.cores_per_host(), 64);
  EXPECT_EQ(machine.memory_per_rank, 90 * kGiB);
  const dist::Machine crowded = assume_machine(plain_job(), {.ranks_per_host = 8, .cores_per_host = 2}, 8);
  EXPECT_EQ(crowded.cores_per_rank, 1);
  EXPECT_EQ(crowded.cores_per_host(), 2);
}

TEST(PlanTable, RowsEqualSinglePlans) {
  const ModelConfig model = published_model("nemotron-3-super-120b-a12b");
  const JobConfig job = plain_job();
  for (const int64_t num_ranks : {16, 64, 256}) {
    const dist::Machine machine = machine_of(num_ranks, 40 * kGiB, 4);
    const dist::Plan plan = dist::draft_plan(model, job, machine);
    const Forecast forecast = make_forecast(model, job, plan, machine, {}, {});
    const TableRow row = make_table_row(model, job, machine, forecast.traffic, {});
    EXPECT_EQ(row.layout, plan.layout);
    ASSERT_TRUE(row.prediction);
    EXPECT_EQ(row.prediction->decode.tokens_per_s, forecast.prediction->decode.tokens_per_s);
    EXPECT_EQ(row.prediction->prefill.tokens_per_s, forecast.prediction->prefill.tokens_per_s);
    // At assumed rates a prediction is the estimate that the layout was chosen by.
    EXPECT_NEAR(forecast.prediction->decode.tokens_per_s / plan.tokens_per_s, 1, 1e-9);
  }
}

TEST(PlanTable, HasALineForEveryNumberOfEveryPublishedModel) {
  const auto folder = std::string(NEMO_SOURCE_DIR) + "/configs/models";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    const ModelConfig model = load_model_config(entry.path());
    std::vector<TableRow> rows;
    for (const int64_t num_ranks : {1, 16, 64, 256, 1024, 4096})
      rows.push_back(
          make_table_row(model, plain_job(), machine_of(num_ranks, 40 * kGiB, 4), {1024, 256}, {}));
    const std::string table = table_text(rows, {1024, 256}, {});
    for (const char* part : {"  4,096  ", "held up by", "assumed, not measured"})
      EXPECT_NE(table.find(part), std::string::npos) << table;
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
    const auto json = nlohmann::json::parse(table_json(rows, {1024, 256}, {}));
    EXPECT_EQ(json["rows"].size(), rows.size());
    EXPECT_GT(json["rows"][5]["decode"]["tokens_per_s"],
              json["rows"][1].value("decode", nlohmann::json::object()).value("tokens_per_s", 0.0));
  }
}

TEST(PlanTable, SaysWhatDoesNotFitAndWhatIsImpossible) {
  const ModelConfig model = published_model("nemotron-h-56b");
  const TableRow tight = make_table_row(model, plain_job(), machine_of(2, 16 * kGiB), {1024, 256}, {});
  const TableRow odd =
      make_table_row(model, dist::job_with_layout(1, 2, 1), machine_of(3, 160 * kGiB), {1024, 256}, {});
  EXPECT_NE(odd.refusal.find("makes 2 ranks"), std::string::npos);
  const std::string table = table_text({tight, odd}, {1024, 256}, {});
  EXPECT_NE(table.find("does not fit"), std::string::npos);
  EXPECT_NE(table.find("impossible"), std::string::npos);
}

TEST(Forecast, AFixedLayoutHasNoUseForAnotherHost) {
  const ModelConfig model = published_model("nano-9b-v2");
  const JobConfig job = dist::job_with_layout(1, 2, 1);
  const dist::Machine machine = machine_of(2, 100 * kGiB);
  const Forecast fixed = make_forecast(model, job, dist::make_plan(model, job, machine), machine, {}, {});
  EXPECT_TRUE(fixed.next.empty());
  const Forecast free =
      make_forecast(model, plain_job(), dist::make_plan(model, plain_job(), machine), machine, {}, {});
  ASSERT_EQ(free.next.size(), 1u);
  EXPECT_EQ(free.next[0].num_hosts, 3);
  EXPECT_NEAR(free.next[0].prediction.decode.tokens_per_s / free.prediction->decode.tokens_per_s, 1.5, 0.01);
}

}  // namespace
}  // namespace nemo::launch
