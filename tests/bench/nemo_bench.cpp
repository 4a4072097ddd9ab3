// nemo-bench: the machine's ceilings, then every kernel (or a whole model) as a fraction of the floor they
// imply: the longer of the time its bytes take at the measured bandwidth and the time its operations take at
// the measured peak. One run, nothing asserted.
//
//   nemo-bench [--json] [--threads N]                         kernels, and what row-purity costs them
//   nemo-bench [--json] [--threads N] --purity                the latter alone
//   nemo-bench [--json] [--threads N] --model CHECKPOINT      a whole model
//   mpirun -np 2 nemo-bench --calibrate FILE                  the rates that nemo-dist --plan --calibration
//   reads
#include <sched.h>

#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "dist/comm/mpi_session.h"
#include "dist/plan/calibration_file.h"
#include "tests/bench/calibration.h"
#include "tests/bench/cases.h"
#include "tests/bench/ceilings.h"
#include "tests/bench/impure.h"
#include "tests/bench/shares.h"
#include "tests/bench/stopwatch.h"
#include "tests/bench/whole_model.h"

namespace nemo::bench {
namespace {

struct Options {
  bool json = false;
  bool purity_only = false;
  int threads = 0;  ///< 0 = once with one, once with all
  std::string model_path;
  std::string calibration_path;
};

/// mpirun binds two ranks to a core each: undone, as far as the system lets us have more.
void take_all_cores() {
  cpu_set_t all;
  CPU_ZERO(&all);
  for (size_t core = 0; core < CPU_SETSIZE; ++core) CPU_SET(core, &all);
  sched_setaffinity(0, sizeof(all), &all);
}

int all_threads() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

Options parse(int argc, char** argv) {
  Options options;
  const auto value = [&](int& i) -> std::string {
    if (++i == argc) throw Error(argv[i - 1], "needs a value", "see the head of tests/bench/nemo_bench.cpp");
    return argv[i];
  };
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--purity") {
      options.purity_only = true;
    } else if (argument == "--threads") {
      const std::string text = value(i);
      const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), options.threads);
      if (code != std::errc() || end != text.data() + text.size() || options.threads < 1 ||
          options.threads > 4096)
        throw Error("--threads", "must be a number of threads, not " + text, "");
    } else if (argument == "--model") {
      options.model_path = value(i);
    } else if (argument == "--calibrate") {
      options.calibration_path = value(i);
    } else {
      throw Error(
          argument, "is unknown",
          "usage: nemo-bench [--json] [--threads N] [--purity | --model CHECKPOINT | --calibrate FILE]");
    }
  }
  return options;
}

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

nlohmann::json kernel_rows(const kernels::Context& context, const Ceilings& ceilings) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Case& entry : all_cases()) {
    const double seconds = median_seconds(0.4, [&] { entry.run(context); });
    rows.push_back({{"name", entry.name},
                    {"microseconds", seconds * 1e6},
                    {"gb_per_s", entry.bytes / seconds / 1e9},
                    {"gflops", (entry.bf16_flops + entry.float32_flops) / seconds / 1e9},
                    {"fraction_of_floor", floor_seconds(entry, ceilings) / seconds}});
  }
  return rows;
}

nlohmann::json share_rows(const nlohmann::json& kernels) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Share& share : shares_of([&](const std::string& name) {
         for (const auto& row : kernels)
           if (row["name"] == name) return row["microseconds"].get<double>();
         throw Error(name, "is no case of the benchmark", "name one of tests/bench/cases.h");
       }))
    rows.push_back({{"name", share.name}, {"fraction", share.fraction}, {"goal", share.goal}});
  return rows;
}

nlohmann::json purity_rows(const kernels::Context& context) {
  nlohmann::json rows = nlohmann::json::array();
  for (const PurityTax& row : measure_purity_tax(context))
    rows.push_back({{"product", row.product},
                    {"microseconds", row.seconds * 1e6},
                    {"variant", row.variant},
                    {"variant_microseconds", row.variant_seconds * 1e6},
                    {"tax", row.tax()}});
  return rows;
}

nlohmann::json model_rows(const std::string& path, kernels::ThreadPool& threads, const Ceilings& ceilings) {
  nlohmann::json rows = nlohmann::json::array();
  for (const ModelRow& row : measure_model(path, threads, ceilings)) {
    rows.push_back({{"name", row.name},
                    {"tokens_per_s", row.tokens_per_s},
                    {"fraction_of_floor", row.fraction_of_floor}});
    if (row.of_one_thread) rows.back()["of_one_thread"] = *row.of_one_thread;
  }
  return rows;
}

nlohmann::json measure(int num_threads, const Options& options) {
  kernels::ThreadPool threads(num_threads);
  const kernels::Context context{threads, kernels::detect_isa(), kernels::DType::kBFloat16};
  const Ceilings ceilings = measure_ceilings(threads, context.isa);
  nlohmann::json result = {{"threads", num_threads},
                           {"instruction_set", kernels::isa_name(context.isa)},
                           {"read_gb_per_s", ceilings.read_bytes_per_s / 1e9},
                           {"float32_gflops", ceilings.float32_flops_per_s / 1e9},
                           {"bfloat16_gflops", ceilings.bfloat16_flops_per_s / 1e9}};
  if (!options.model_path.empty()) {
    result["model"] = model_rows(options.model_path, threads, ceilings);
    return result;
  }
  if (!options.purity_only) {
    result["kernels"] = kernel_rows(context, ceilings);
    result["shares"] = share_rows(result["kernels"]);
  }
  result["purity"] = purity_rows(context);
  return result;
}

void print_model(const nlohmann::json& rows) {
  if (!rows.empty())
    std::printf("%-44s %12s %9s %14s\n", "whole model", "tokens/s", "of floor", "of one thread");
  for (const auto& row : rows) {
    std::printf("%-44s %12.1f %8.0f%%", row["name"].get<std::string>().c_str(),
                row["tokens_per_s"].get<double>(), 100 * row["fraction_of_floor"].get<double>());
    if (row.contains("of_one_thread")) std::printf(" %13.2fx", row["of_one_thread"].get<double>());
    std::printf("\n");
  }
}

void print_table(const nlohmann::json& result) {
  std::printf("\n%d threads, %s: reads %.1f GB/s, float32 %.0f GFLOP/s, bfloat16 %.0f GFLOP/s\n",
              result["threads"].get<int>(), result["instruction_set"].get<std::string>().c_str(),
              result["read_gb_per_s"].get<double>(), result["float32_gflops"].get<double>(),
              result["bfloat16_gflops"].get<double>());
  if (result.contains("kernels"))
    std::printf("%-44s %12s %8s %9s %9s\n", "kernel", "us", "GB/s", "GFLOP/s", "of floor");
  for (const auto& kernel : result.value("kernels", nlohmann::json::array()))
    std::printf("%-44s %12.1f %8.1f %9.1f %8.0f%%\n", kernel["name"].get<std::string>().c_str(),
                kernel["microseconds"].get<double>(), kernel["gb_per_s"].get<double>(),
                kernel["gflops"].get<double>(), 100 * kernel["fraction_of_floor"].get<double>());
  for (const auto& share : result.value("shares", nlohmann::json::array()))
    std::printf("%-66s %8.1f%%  (goal: at most %.0f%%)\n", share["name"].get<std::string>().c_str(),
                100 * share["fraction"].get<double>(), 100 * share["goal"].get<double>());
  if (result.contains("purity"))
    std::printf("%-34s %12s %12s  %-18s %6s\n", "tax of row-purity, bf16", "us", "us without", "that is",
                "tax");
  for (const auto& row : result.value("purity", nlohmann::json::array()))
    std::printf("%-34s %12.1f %12.1f  %-18s %5.1f%%\n", row["product"].get<std::string>().c_str(),
                row["microseconds"].get<double>(), row["variant_microseconds"].get<double>(),
                row["variant"].get<std::string>().c_str(), 100 * row["tax"].get<double>());
  print_model(result.value("model", nlohmann::json::array()));
}

void report(const Options& options) {
  nlohmann::json all = {{"processor", processor()}, {"runs", nlohmann::json::array()}};
  if (!options.model_path.empty()) all["model"] = options.model_path;
  std::vector<int> counts = {1};
  if (all_threads() > 1) counts.push_back(all_threads());
  if (options.threads > 0) counts = {options.threads};
  if (!options.json) std::cout << processor() << '\n';
  for (const int threads : counts) {
    all["runs"].push_back(measure(threads, options));
    if (!options.json) print_table(all["runs"].back());
  }
  if (!options.json && !has_onednn())
    std::cout << "oneDNN: not built, for want of libdnnl-dev and OpenMP when this was configured\n";
  if (options.json) std::cout << all.dump(2) << '\n';
}

/// With one thread, half of them and all: between, the cost model interpolates.
void calibrate(int argc, char** argv, const std::string& path) {
  take_all_cores();  // before MPI starts threads
  dist::MpiSession session(argc, argv);
  if (session.world_size() != 2)
    throw Error("--calibrate", "needs two ranks, to measure messages between them",
                "mpirun -np 2 nemo-bench --calibrate FILE");
  dist::Communicator world = dist::Communicator::world(std::chrono::minutes(10));
  dist::Calibration calibration{.source = path,
                                .processor = processor(),
                                .instruction_set = std::string(kernels::isa_name(kernels::detect_isa())),
                                .runs = {},
                                .host_message = measure_messages(world)};
  if (world.rank() == 0) {
    std::vector<int> counts = {1, all_threads() / 2, all_threads()};
    std::erase(counts, 0);
    counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
    for (const int threads : counts) calibration.runs.push_back(measure_kernels(threads));
    std::ofstream file(path);
    file << dist::calibration_json(calibration);
    if (!file.flush()) throw Error(path, "cannot be written", "");
    world.post(1, dist::Tag::kHidden, "done");
    world.flush("rank 1 to end");
  } else {
    // Asleep: a rank that waits as in a job takes one of the cores that are measured now and then.
    while (!world.poll(dist::Tag::kHidden)) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

}  // namespace
}  // namespace nemo::bench

int main(int argc, char** argv) {
  try {
    const nemo::bench::Options options = nemo::bench::parse(argc, argv);
    if (options.calibration_path.empty()) {
      nemo::bench::report(options);
    } else {
      nemo::bench::calibrate(argc, argv, options.calibration_path);
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "nemo-bench: " << error.what() << '\n';
    return 2;
  }
}
