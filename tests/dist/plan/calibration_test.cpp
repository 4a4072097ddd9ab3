#include "dist/plan/calibration.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "dist/plan/calibration_file.h"
#include "kernels/error.h"
#include "tests/dist/plan/plan_fixtures.h"

namespace nemo::dist {
namespace {

/// Numbers that are all different, each a round one.
Calibration sample(std::vector<int64_t> threads = {1, 2, 4}) {
  Calibration calibration{.source = "x.json",
                          .processor = "a processor",
                          .instruction_set = "avx2",
                          .runs = {},
                          .host_message = {.latency_s = 3e-6, .bytes_per_s = 4e9}};
  for (const int64_t count : threads) {
    KernelRates run{.threads = count, .products = {}, .experts = {}};
    for (size_t i = 0; i < kNumRates; ++i) run.rates[i] = static_cast<double>(count * (i + 1)) * 1e9;
    for (size_t i = 0; i < kNumWeightFormats; ++i) {
      const double weight_s = static_cast<double>(i + 1) * 1e-9 / static_cast<double>(count);
      run.products[i] = {.rows = {1, 8, 64}, .seconds_per_weight = {weight_s, 2 * weight_s, 16 * weight_s}};
      run.experts[i] = {.rows = {1, 8}, .seconds_per_weight = {weight_s, 3 * weight_s}};
    }
    calibration.runs.push_back(run);
  }
  return calibration;
}

TEST(ProductCurve, IsLinearBetweenItsPointsAndBeyond) {
  const ProductCurve curve{.rows = {1, 3, 5}, .seconds_per_weight = {10, 14, 24}};
  EXPECT_EQ(curve.at(0.25), 10);
  EXPECT_EQ(curve.at(1), 10);
  EXPECT_EQ(curve.at(2), 12);
  EXPECT_EQ(curve.at(3), 14);
  EXPECT_EQ(curve.at(4), 19);
  EXPECT_EQ(curve.at(9), 44);
}

TEST(RatesOfRank, RanksOfAHostShareWhatItsThreadsGetTogether) {
  const Calibration calibration = sample();
  const auto read = [&](CoreShare share) { return rates_of_rank(calibration, share)[Rate::kReadBytes]; };
  EXPECT_DOUBLE_EQ(read({.threads = 1, .busy_ranks = 1, .cores_per_host = 4}), 1e9);
  EXPECT_DOUBLE_EQ(read({.threads = 4, .busy_ranks = 1, .cores_per_host = 4}), 4e9);
  EXPECT_DOUBLE_EQ(read({.threads = 3, .busy_ranks = 1, .cores_per_host = 4}), 3e9);  // between two runs
  EXPECT_DOUBLE_EQ(read({.threads = 2, .busy_ranks = 2, .cores_per_host = 4}), 2e9);
  EXPECT_DOUBLE_EQ(read({.threads = 1, .busy_ranks = 8, .cores_per_host = 4}), 1e9);  // while it has a core
  EXPECT_DOUBLE_EQ(read({.threads = 8, .busy_ranks = 1, .cores_per_host = 4}), 4e9);  // there are no more
  EXPECT_DOUBLE_EQ(read({.threads = 8, .busy_ranks = 1, .cores_per_host = 8}), 8e9);  // a host twice as large
  const KernelRates half = rates_of_rank(calibration, {.threads = 2, .busy_ranks = 2, .cores_per_host = 4});
  EXPECT_DOUBLE_EQ(half.products[1].at(8), 2 * calibration.runs[2].products[1].at(8));
  EXPECT_DOUBLE_EQ(half[Rate::kCalls], calibration.runs[2][Rate::kCalls]);  // starts take what they take
  const KernelRates turns = rates_of_rank(calibration, {.threads = 8, .busy_ranks = 1, .cores_per_host = 4});
  EXPECT_DOUBLE_EQ(turns[Rate::kCalls], calibration.runs[2][Rate::kCalls] / 2);  // the last thread waits
}

TEST(CalibrationFile, ComesBackAsItWasWritten) {
  const Calibration written = sample();
  const Calibration read = parse_calibration(calibration_json(written), "x.json");
  EXPECT_EQ(read.processor, written.processor);
  EXPECT_EQ(read.instruction_set, written.instruction_set);
  EXPECT_DOUBLE_EQ(read.host_message.latency_s, written.host_message.latency_s);
  EXPECT_DOUBLE_EQ(read.host_message.bytes_per_s, written.host_message.bytes_per_s);
  ASSERT_EQ(read.runs.size(), written.runs.size());
  for (size_t r = 0; r < read.runs.size(); ++r) {
    EXPECT_EQ(read.runs[r].threads, written.runs[r].threads);
    for (size_t i = 0; i < kNumRates; ++i) EXPECT_DOUBLE_EQ(read.runs[r].rates[i], written.runs[r].rates[i]);
    for (size_t i = 0; i < kNumWeightFormats; ++i) {
      EXPECT_EQ(read.runs[r].products[i].rows, written.runs[r].products[i].rows);
      for (const double rows : {1.0, 8.0, 20.0})
        EXPECT_NEAR(read.runs[r].products[i].at(rows) / written.runs[r].products[i].at(rows), 1, 1e-3);
    }
  }
}

TEST(CalibrationFile, TheShippedOnesAreRead) {
  int num_files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(NEMO_SOURCE_DIR) + "/configs/calibration")) {
    if (entry.path().extension() != ".json") continue;
    EXPECT_TRUE(load_calibration(entry.path()).is_measured());
    ++num_files;
  }
  EXPECT_GE(num_files, 1);
}

std::string refusal_of(const std::string& text) {
  try {
    parse_calibration(text, "x.json");
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("x.json", 0), 0u) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no refusal of " << text.substr(0, 80);
  return "";
}

TEST(CalibrationFile, SaysWhereAndWhatIsWrong) {
  const std::string good = calibration_json(sample());
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  struct Case {
    std::string text, part;
  };
  for (const Case& bad : {
           Case{"", "x.json"},
           Case{"[]", "must be an object"},
           Case{replaced("calibration 1", "calibration 9"), "format: must be"},
           Case{replaced("\"processor\"", "\"procesor\""), "procesor: is unknown; did you mean processor?"},
           Case{replaced("\"read_gb_per_s\": 1.0,", ""), "runs[0]: read_gb_per_s: is missing"},
           Case{replaced("\"read_gb_per_s\": 1.0", "\"read_gb_per_s\": -1"), "must be a number above 0"},
           Case{replaced("\"read_gb_per_s\": 1.0", "\"read_gb_per_s\": \"fast\""),
                "must be a number above 0"},
           Case{replaced("\"read_gb_per_s\": 1.0", "\"read_gb_per_s\": 1e300"), "must be a number above 0"},
           Case{replaced("\"read_gb_per_s\": 1.0", "\"read_gb_per_s\": NaN"), "must be a number above 0"},
           Case{replaced("\"threads\": 2", "\"threads\": 1"), "runs: threads: must rise"},
           Case{replaced("\"threads\": 2", "\"threads\": 1.5"), "must be an integer"},
           Case{replaced("64.0", "0.5"), "rows: must rise"},
       })
    EXPECT_NE(refusal_of(bad.text).find(bad.part), std::string::npos) << bad.part << "\n"
                                                                      << refusal_of(bad.text);
}

TEST(CalibrationFile, AMissingFileIsABadCommandLine) {
  try {
    load_calibration("/nonexistent/x.json");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadJob);
    EXPECT_NE(std::string(error.what()).find("/nonexistent/x.json"), std::string::npos);
  }
}

}  // namespace
}  // namespace nemo::dist
