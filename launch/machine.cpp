#include "launch/machine.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <sstream>

namespace nemo::launch {

namespace {

/// The number a cgroup file holds; nothing for "max", an absurdly large limit or no such file.
std::optional<int64_t> cgroup_number(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (!(file >> value) || value <= 0 || value > (int64_t{1} << 60)) return std::nullopt;
  return value;
}

int64_t meminfo_available() {
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("MemAvailable:")) continue;
    int64_t kib = 0;
    std::istringstream(line.substr(13)) >> kib;
    return kib * 1024;
  }
  throw Error("/proc/meminfo", "no MemAvailable", "set limits.memory in the job");
}

}  // namespace

int64_t usable_memory(int64_t free_bytes) {
  return free_bytes / 10 * 9;
}

int64_t available_memory() {
  int64_t available = meminfo_available();
  constexpr std::array<std::pair<const char*, const char*>, 2> kLimits = {{
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
  }};
  for (const auto& [limit_path, used_path] : kLimits) {
    const auto limit = cgroup_number(limit_path);
    if (!limit) continue;
    available = std::min(available, std::max<int64_t>(0, *limit - cgroup_number(used_path).value_or(0)));
  }
  return usable_memory(available);
}

int64_t available_cores() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? std::max(1, CPU_COUNT(&cpus)) : 1;
}

dist::Machine survey_machine(dist::Communicator& world, const JobConfig& job) {
  const dist::Communicator host = world.split_by_host();
  const int64_t ranks_here = host.size();
  const int64_t memory = job.limits.memory_bytes.value_or(available_memory() / ranks_here);
  const int64_t cores = available_cores();
  const int64_t too_few = cores < ranks_here ? cores : 0;
  const std::array<int64_t, 4> mine = {
      ranks_here, -memory, -std::max<int64_t>(1, cores / ranks_here),  // negated: the least of all
      too_few};
  const auto all = world.all_max(mine, "all ranks to tell what their hosts offer");
  return {.num_ranks = world.size(),
          .ranks_per_host = all[0],
          .memory_per_rank = -all[1],
          .cores_per_rank = -all[2],
          .oversubscribed_cores = all[3]};
}

kernels::Isa agree_on_isa(dist::Communicator& world) {
  const int64_t mine = -static_cast<int64_t>(kernels::detect_isa());
  return static_cast<kernels::Isa>(
      -world.all_max({&mine, 1}, "all ranks to tell their instruction sets").front());
}

}  // namespace nemo::launch
