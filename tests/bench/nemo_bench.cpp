// nemo-bench: the machine's ceilings, then every kernel as a fraction of the floor they imply: the longer of
// the time its bytes take at the measured bandwidth and the time its operations take at the measured peak.
// One run, nothing asserted.
//
//   nemo-bench [--json] [--threads N]
#include <sys/utsname.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "tests/bench/cases.h"
#include "tests/bench/ceilings.h"
#include "tests/bench/stopwatch.h"

namespace nemo::bench {
namespace {

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(": ") + 2);
  return "unknown";
}

double floor_seconds(const Case& entry, const Ceilings& ceilings) {
  return std::max(
      entry.bytes / ceilings.read_bytes_per_s,
      entry.bf16_flops / ceilings.bfloat16_flops_per_s + entry.float32_flops / ceilings.float32_flops_per_s);
}

nlohmann::json measure(int num_threads) {
  kernels::ThreadPool threads(num_threads);
  const kernels::Context context{threads, kernels::detect_isa(), kernels::DType::kBFloat16};
  const Ceilings ceilings = measure_ceilings(threads, context.isa);
  nlohmann::json result = {{"threads", num_threads},
                           {"instruction_set", kernels::isa_name(context.isa)},
                           {"read_gb_per_s", ceilings.read_bytes_per_s / 1e9},
                           {"float32_gflops", ceilings.float32_flops_per_s / 1e9},
                           {"bfloat16_gflops", ceilings.bfloat16_flops_per_s / 1e9},
                           {"kernels", nlohmann::json::array()}};
  for (const Case& entry : all_cases()) {
    const double seconds = median_seconds(0.4, [&] { entry.run(context); });
    result["kernels"].push_back({{"name", entry.name},
                                 {"microseconds", seconds * 1e6},
                                 {"gb_per_s", entry.bytes / seconds / 1e9},
                                 {"gflops", (entry.bf16_flops + entry.float32_flops) / seconds / 1e9},
                                 {"fraction_of_floor", floor_seconds(entry, ceilings) / seconds}});
  }
  return result;
}

void print_table(const nlohmann::json& result) {
  std::printf("\n%d threads, %s: reads %.1f GB/s, float32 %.0f GFLOP/s, bfloat16 %.0f GFLOP/s\n",
              result["threads"].get<int>(), result["instruction_set"].get<std::string>().c_str(),
              result["read_gb_per_s"].get<double>(), result["float32_gflops"].get<double>(),
              result["bfloat16_gflops"].get<double>());
  std::printf("%-44s %12s %8s %9s %9s\n", "kernel", "us", "GB/s", "GFLOP/s", "of floor");
  for (const auto& kernel : result["kernels"])
    std::printf("%-44s %12.1f %8.1f %9.1f %8.0f%%\n", kernel["name"].get<std::string>().c_str(),
                kernel["microseconds"].get<double>(), kernel["gb_per_s"].get<double>(),
                kernel["gflops"].get<double>(), 100 * kernel["fraction_of_floor"].get<double>());
}

}  // namespace
}  // namespace nemo::bench

int main(int argc, char** argv) {
  bool json = false;
  int num_threads = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--json") {
      json = true;
    } else if (argument == "--threads" && i + 1 < argc) {
      num_threads = std::atoi(argv[++i]);
    } else {
      std::cerr << "usage: nemo-bench [--json] [--threads N]\n";
      return 2;
    }
  }
  const int all = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  nlohmann::json report = {{"processor", nemo::bench::processor()}, {"runs", nlohmann::json::array()}};
  std::vector<int> counts = {1};
  if (all > 1) counts.push_back(all);
  if (num_threads > 0) counts = {num_threads};
  if (!json) std::cout << nemo::bench::processor() << '\n';
  for (const int threads : counts) {
    report["runs"].push_back(nemo::bench::measure(threads));
    if (!json) nemo::bench::print_table(report["runs"].back());
  }
  if (json) std::cout << report.dump(2) << '\n';
  return 0;
}
