// What this machine offers to a rank.
#pragma once

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

/// What the least of all ranks has, so that every rank makes the same plan. Collective.
dist::Machine survey_machine(dist::Communicator& world, const JobConfig& job);

/// The best instruction set that every rank has: bits are promised within one only. Collective.
kernels::Isa agree_on_isa(dist::Communicator& world);

}  // namespace nemo::launch
