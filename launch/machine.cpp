#include "launch/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iostream>
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

/// The cores this process may run on, a bit each. cpu_set_t ends at 1024 of them, and hosts do not.
std::string core_mask() {
  alignas(cpu_set_t) std::array<char, 1024> mask = {};
  if (sched_getaffinity(0, mask.size(), reinterpret_cast<cpu_set_t*>(mask.data())) != 0) mask[0] = 1;
  return {mask.data(), mask.size()};
}

bool has_core(const std::string& mask, size_t core) {
  return (static_cast<unsigned char>(mask[core / 8]) >> core % 8 & 1) != 0;
}

/// Cores of this host that are ours: those that Slurm has given the job, or all.
int64_t cores_of_job() {
  const char* of_slurm = std::getenv("SLURM_CPUS_ON_NODE");
  const int64_t given = of_slurm != nullptr ? std::atoll(of_slurm) : 0;
  return given > 0 ? given : sysconf(_SC_NPROCESSORS_ONLN);
}

/// mpirun binds a rank to one core where it starts no more than two.
void tell_of_idle_cores(const CoreShare& share, const JobConfig& job) {
  const int64_t cores = cores_of_job();
  if (std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr || share.of_host >= cores) return;
  if (job.parallel.threads && *job.parallel.threads <= share.of_rank) return;
  std::cerr << "nemo-dist: mpirun lets this host's ranks run on " << share.of_host << " of its " << cores
            << " cores; with --bind-to none they take all\n";
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

CoreShare share_cores(std::span<const std::string> masks, size_t rank) {
  CoreShare share{.of_rank = 0, .of_host = 0};
  double of_rank = 0;
  for (size_t core = 0; core < 8 * masks[rank].size(); ++core) {
    const auto ranks =
        std::ranges::count_if(masks, [&](const std::string& mask) { return has_core(mask, core); });
    if (ranks == 0) continue;
    ++share.of_host;
    if (has_core(masks[rank], core)) of_rank += 1.0 / static_cast<double>(ranks);
  }
  share.of_rank = std::max<int64_t>(1, static_cast<int64_t>(of_rank + 1e-6));
  return share;
}

int64_t available_cores() {
  return share_cores(std::array{core_mask()}, 0).of_host;
}

dist::Machine survey_machine(dist::Communicator& world, const JobConfig& job) {
  dist::Communicator host = world.split_by_host();
  const int64_t ranks_here = host.size();
  const int64_t memory = job.limits.memory_bytes.value_or(available_memory() / ranks_here);
  const CoreShare cores =
      share_cores(host.all_gather(core_mask(), "the cores of every rank"), static_cast<size_t>(host.rank()));
  const int64_t too_few = cores.of_host < ranks_here ? cores.of_host : 0;
  const std::array<int64_t, 4> mine = {ranks_here, -memory, -cores.of_rank,  // negated: the least of all
                                       too_few};
  if (world.rank() == 0) tell_of_idle_cores(cores, job);
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
