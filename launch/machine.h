// What this machine offers to a rank.
#pragma once

#include <span>
#include <string>

#include "dist/comm/communicator.h"
#include "dist/plan/plan.h"
#include "kernels/context.h"

namespace nemo::launch {

/// What a plan may use of a host's free bytes: nine tenths. KV pages take all that is left, and the system,
/// MPI and the page cache want to live too.
int64_t usable_memory(int64_t free_bytes);
/// That of this host: of /proc/meminfo's MemAvailable, or of what a cgroup still allows.
int64_t available_memory();
/// Cores this process may run on.
int64_t available_cores();

/// Of the cores of one host: what one rank may take, at least 1, and all that any of its ranks may run on.
struct CoreShare {
  int64_t of_rank = 1;
  int64_t of_host = 1;
};
/// `masks`: for each rank of the host the cores it may run on, a bit each, as the scheduler of the system or
/// of the cluster has bound it. Ranks share equally what several of them may use, and have for themselves
/// what only they may.
CoreShare share_cores(std::span<const std::string> masks, size_t rank);

/// What the least of all ranks has, so that every rank makes the same plan. Collective. Rank 0 tells people
/// if mpirun keeps the ranks of its host from cores that the job could use.
dist::Machine survey_machine(dist::Communicator& world, const JobConfig& job);

/// The best instruction set that every rank has: bits are promised within one only. Collective.
kernels::Isa agree_on_isa(dist::Communicator& world);

}  // namespace nemo::launch
