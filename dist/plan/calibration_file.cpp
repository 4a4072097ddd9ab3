#include "dist/plan/calibration_file.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>

#include "kernels/error.h"
#include "lib/config/json_text.h"
#include "lib/config/nearest_key.h"

namespace nemo::dist {
namespace {

using nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kFormat = "nemo-dist calibration 1";
constexpr uint64_t kMaxBytes = 1 << 20;
constexpr size_t kMaxRuns = 64, kMaxPoints = 64;
constexpr double kMostThreads = 4096, kMostRows = 1 << 20;
constexpr double kFlopsPerWeight = 2;
constexpr const char* kRemedy = "make the file with nemo-bench --calibrate";

struct RateKey {
  const char* key;
  double unit;
};
constexpr std::array<RateKey, kNumRates> kRateKeys = {{
    {"read_gb_per_s", 1e9},
    {"attention_decode_gflops", 1e9},
    {"attention_decode_fp8_gflops", 1e9},
    {"attention_prefill_gflops", 1e9},
    {"scan_decode_gelements_per_s", 1e9},
    {"scan_prefill_gelements_per_s", 1e9},
    {"elements_g_per_s", 1e9},
    {"router_scores_g_per_s", 1e9},
    {"logits_g_per_s", 1e9},
    {"kernel_calls_k_per_s", 1e3},
}};
constexpr std::array<const char*, kNumWeightFormats> kFormatKeys = {"float32", "bfloat16", "fp8", "nvfp4"};

/// One object of the file: every key must be there, be known and have the type asked for.
class Table {
 public:
  Table(const json& value, std::string where, const std::vector<std::string>& keys)
      : value_(value), where_(std::move(where)) {
    if (!value.is_object()) throw_error(where_, "must be an object, not " + json_excerpt(value));
    for (const auto& [key, member] : value.items())
      if (std::ranges::find(keys, key) == keys.end()) {
        const std::optional<std::string> nearest = nearest_key(key, keys);
        throw_error(where_ + ": " + key, "is unknown" + (nearest ? "; did you mean " + *nearest + "?" : ""));
      }
    for (const std::string& key : keys)
      if (!value.contains(key)) throw_error(where_ + ": " + key, "is missing");
  }

  std::string place(const std::string& key) const { return where_ + ": " + key; }
  const json& operator[](const std::string& key) const { return value_[key]; }

  std::string text(const std::string& key) const {
    if (!value_[key].is_string())
      throw_error(place(key), "must be a string, not " + json_excerpt(value_[key]));
    return value_[key].get<std::string>();
  }
  /// A positive number up to `most`.
  double number(const std::string& key, double most) const {
    return to_number(value_[key], place(key), most);
  }

  /// A list of `least` to kMaxPoints (or kMaxRuns) values.
  const json& list(const std::string& key, size_t least, size_t most) const {
    const json& value = value_[key];
    if (!value.is_array() || value.size() < least || value.size() > most)
      throw_error(place(key), "must be a list of " + std::to_string(least) + " to " + std::to_string(most) +
                                  " values, not " + json_excerpt(value));
    return value;
  }
  std::vector<double> numbers(const std::string& key, size_t least, size_t most, double largest) const {
    std::vector<double> result;
    for (const json& item : list(key, least, most)) result.push_back(to_number(item, place(key), largest));
    return result;
  }

  [[noreturn]] static void throw_error(const std::string& where, const std::string& what) {
    throw Error(where, what, kRemedy, ErrorKind::kBadJob);
  }

 private:
  static double to_number(const json& value, const std::string& where, double most) {
    if (!value.is_number() || !(value.get<double>() > 0) || value.get<double>() > most)
      throw_error(
          where, "must be a number above 0 and up to " + json_excerpt(most) + ", not " + json_excerpt(value));
    return value.get<double>();
  }

  const json& value_;
  std::string where_;
};

constexpr double kMostOfUnit = 1e9;  // beyond it, a rate is a typing error

void expect_rising(const std::vector<double>& values, const std::string& where) {
  if (std::ranges::adjacent_find(values, std::ranges::greater_equal()) != values.end())
    Table::throw_error(where, "must rise");
}

std::array<ProductCurve, kNumWeightFormats> read_curves(const json& value, const std::string& where) {
  std::vector<std::string> keys = {"rows"};
  keys.insert(keys.end(), kFormatKeys.begin(), kFormatKeys.end());
  const Table table(value, where, keys);
  const std::vector<double> rows = table.numbers("rows", 2, kMaxPoints, kMostRows);
  expect_rising(rows, table.place("rows"));
  if (rows.front() != 1) Table::throw_error(table.place("rows"), "must begin with 1");
  std::array<ProductCurve, kNumWeightFormats> curves;
  for (size_t i = 0; i < kNumWeightFormats; ++i) {
    const auto gflops = table.numbers(kFormatKeys[i], rows.size(), rows.size(), kMostOfUnit);
    curves[i].rows = rows;
    for (size_t p = 0; p < rows.size(); ++p)
      curves[i].seconds_per_weight.push_back(kFlopsPerWeight * rows[p] / (gflops[p] * 1e9));
  }
  return curves;
}

KernelRates read_run(const json& value, const std::string& where) {
  std::vector<std::string> keys = {"threads", "products_gflops", "experts_gflops"};
  for (const RateKey& rate : kRateKeys) keys.emplace_back(rate.key);
  const Table table(value, where, keys);
  KernelRates run;
  const double threads = table.number("threads", kMostThreads);
  run.threads = static_cast<int64_t>(threads);
  if (static_cast<double>(run.threads) != threads)
    Table::throw_error(table.place("threads"), "must be an integer");
  for (size_t i = 0; i < kNumRates; ++i)
    run.rates[i] = table.number(kRateKeys[i].key, kMostOfUnit) * kRateKeys[i].unit;
  run.products = read_curves(table["products_gflops"], table.place("products_gflops"));
  run.experts = read_curves(table["experts_gflops"], table.place("experts_gflops"));
  return run;
}

/// Four digits tell more than a measurement knows.
double rounded(double value) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.4g", value);
  return std::strtod(digits, nullptr);
}

OrderedJson curves_json(const std::array<ProductCurve, kNumWeightFormats>& curves) {
  OrderedJson result = {{"rows", curves[0].rows}};
  for (size_t i = 0; i < kNumWeightFormats; ++i) {
    OrderedJson& gflops = result[kFormatKeys[i]] = OrderedJson::array();
    for (size_t p = 0; p < curves[i].rows.size(); ++p)
      gflops.push_back(rounded(kFlopsPerWeight * curves[i].rows[p] / curves[i].seconds_per_weight[p] / 1e9));
  }
  return result;
}

}  // namespace

Calibration load_calibration(const std::string& path) {
  try {
    return parse_calibration(read_text_file(path, kMaxBytes), path);
  } catch (const Error& error) {  // bad syntax too is a bad command line
    throw Error(error.what(), ErrorKind::kBadJob);
  }
}

Calibration parse_calibration(const std::string& text, const std::string& where) {
  const json root = parse_json(text, where);
  const Table table(root, where, {"format", "processor", "instruction_set", "host_message", "runs"});
  if (table.text("format") != kFormat)
    Table::throw_error(table.place("format"),
                       "must be \"" + std::string(kFormat) + "\", not " + json_excerpt(root["format"]));
  const Table message(root["host_message"], table.place("host_message"), {"latency_us", "gb_per_s"});
  Calibration calibration{.source = where,
                          .processor = table.text("processor"),
                          .instruction_set = table.text("instruction_set"),
                          .runs = {},
                          .host_message = {.latency_s = message.number("latency_us", kMostOfUnit) * 1e-6,
                                           .bytes_per_s = message.number("gb_per_s", kMostOfUnit) * 1e9}};
  std::vector<double> threads;
  for (const json& run : table.list("runs", 1, kMaxRuns)) {
    const std::string place = table.place("runs[" + std::to_string(threads.size()) + "]");
    calibration.runs.push_back(read_run(run, place));
    threads.push_back(static_cast<double>(calibration.runs.back().threads));
  }
  expect_rising(threads, table.place("runs: threads"));
  return calibration;
}

std::string calibration_json(const Calibration& calibration) {
  OrderedJson result = {{"format", kFormat},
                        {"processor", calibration.processor},
                        {"instruction_set", calibration.instruction_set},
                        {"host_message",
                         {{"latency_us", rounded(calibration.host_message.latency_s * 1e6)},
                          {"gb_per_s", rounded(calibration.host_message.bytes_per_s / 1e9)}}},
                        {"runs", OrderedJson::array()}};
  for (const KernelRates& run : calibration.runs) {
    OrderedJson entry = {{"threads", run.threads}};
    for (size_t i = 0; i < kNumRates; ++i)
      entry[kRateKeys[i].key] = rounded(run.rates[i] / kRateKeys[i].unit);
    entry["products_gflops"] = curves_json(run.products);
    entry["experts_gflops"] = curves_json(run.experts);
    result["runs"].push_back(std::move(entry));
  }
  return result.dump(1) + "\n";
}

}  // namespace nemo::dist
