#include "launch/plan_options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <sstream>

#include "dist/plan/calibration_file.h"
#include "kernels/error.h"
#include "lib/config/units.h"

namespace nemo::launch {
namespace {

constexpr int64_t kMost = 1 << 20;  // of ranks, cores, tokens: beyond it a value is a typing error
constexpr size_t kMostRows = 64;    // of the table

[[noreturn]] void refuse(const std::string& option, const std::string& value, const std::string& expected,
                         const std::string& example) {
  throw Error("command line: " + option, "must be " + expected + ", not \"" + value + "\"", "e.g. " + example,
              ErrorKind::kBadJob);
}

int64_t parse_count(const std::string& option, const std::string& value) {
  int64_t count = 0;
  const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), count);
  if (code != std::errc() || end != value.data() + value.size() || count < 1 || count > kMost)
    refuse(option, value, "at least 1 and at most " + std::to_string(kMost), option + " 16");
  return count;
}

std::vector<int64_t> parse_counts(const std::string& option, const std::string& value) {
  std::vector<int64_t> counts;
  std::istringstream items(value);
  for (std::string item; std::getline(items, item, ',');) counts.push_back(parse_count(option, item));
  if (counts.empty() || counts.size() > kMostRows || value.ends_with(','))
    refuse(option, value, "one or up to " + std::to_string(kMostRows) + " numbers", option + " 16,64,256");
  return counts;
}

/// Seconds of "20us", "1.5ms" or "2s"; nothing if it is none of them.
std::optional<double> parse_latency(const std::string& value) {
  double number = 0;
  const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), number);
  const std::string unit(end, value.data() + value.size());
  const double factor = unit == "us" ? 1e-6 : unit == "ms" ? 1e-3 : unit == "s" ? 1 : 0;
  if (code != std::errc() || factor == 0 || !(number > 0) || number * factor > 3600) return std::nullopt;
  return number * factor;
}

/// Bytes a second of "2.5GB/s" or "10Gbit/s"; nothing if it is neither.
std::optional<double> parse_rate(std::string value) {
  if (!value.ends_with("/s")) return std::nullopt;
  value.resize(value.size() - 2);
  double bits_per_unit = 8;
  if (value.ends_with("bit")) {
    value.replace(value.size() - 3, 3, "B");
    bits_per_unit = 1;
  }
  const std::optional<int64_t> rate = parse_size(value);
  if (!rate || *rate <= 0) return std::nullopt;
  return static_cast<double>(*rate) * bits_per_unit / 8;
}

}  // namespace

dist::MessageCost parse_network(const std::string& text) {
  const size_t comma = text.find(',');
  const auto latency = parse_latency(text.substr(0, comma));
  const auto rate = comma == std::string::npos ? std::nullopt : parse_rate(text.substr(comma + 1));
  if (!latency || !rate)
    refuse("--network", text, "the latency of a message and what a host sends",
           "--network 20us,2.5GB/s or --network 100us,10Gbit/s");
  return {.latency_s = *latency, .bytes_per_s = *rate};
}

void add_plan_options(CLI::App& app, PlanOptions& options) {
  const auto add = [&](const std::string& name, const std::string& type, const std::string& meaning,
                       const std::function<void(const std::string&)>& set) {
    app.add_option_function<std::string>(
           name,
           [&options, name, set](const std::string& value) {
             options.given.push_back(name);
             set(value);
           },
           "with --plan: " + meaning)
        ->type_name(type);
  };
  const auto count_into = [](const std::string& name, auto& target) {
    return [&target, name](const std::string& value) { target = parse_count(name, value); };
  };
  add("--np", "N[,N...]", "the number of ranks; several make a table",
      [&](const std::string& value) { options.num_ranks = parse_counts("--np", value); });
  add("--ranks-per-host", "N", "ranks of a host (default: 1)",
      count_into("--ranks-per-host", options.ranks_per_host));
  add("--host-cores", "N", "cores of a host (default: this one's)",
      count_into("--host-cores", options.cores_per_host));
  add("--host-memory", "SIZE",
      "memory of a host, of which ranks use nine tenths (default: what this one has free)",
      [&](const std::string& value) {
        options.host_memory_bytes = parse_size(value);
        if (options.host_memory_bytes.value_or(0) <= 0)
          refuse("--host-memory", value, "a size", "--host-memory 256GiB");
      });
  add("--network", "LATENCY,RATE", "between hosts; the rate is a host's (default: 20us,2.5GB/s)",
      [&](const std::string& value) { options.network = parse_network(value); });
  add("--calibration", "FILE",
      "measured speeds of a host, by nemo-bench --calibrate (default: NEMO_CALIBRATION, or assumed)",
      [&](const std::string& value) { options.calibration_path = value; });
  add("--prompt-tokens", "N", "tokens of a prompt, for the prediction (default: 1024)",
      count_into("--prompt-tokens", options.prompt_tokens));
  app.add_flag_callback(
      "--json",
      [&options] {
        options.given.emplace_back("--json");
        options.json = true;
      },
      "with --plan: as JSON");
}

dist::Rates load_rates(const PlanOptions& options) {
  dist::Rates rates;
  std::string path = options.calibration_path;
  if (const char* named = std::getenv("NEMO_CALIBRATION"); path.empty() && named != nullptr) path = named;
  if (!path.empty()) rates.host = dist::load_calibration(path);
  if (options.network) rates.network = *options.network;
  return rates;
}

}  // namespace nemo::launch
