// JobRunner: a job from file to results, in phases that all ranks end together.
#pragma once

#include "dist/comm/mpi_session.h"
#include "dist/plan/plan.h"
#include "launch/command_line.h"

namespace nemo::launch {

/// Runs the job of `line` on all ranks of the running MpiSession. Returns the exit code. Throws Error: before
/// the first step alike on every rank; during steps on the rank that found the trouble (see JobPhase).
int run_job(const CommandLine& line);

/// What this rank is doing, for the message of an error. In the start and end phases all ranks throw the same
/// error and rank 0 alone prints it; while running, each prints its own and aborts the others.
struct JobPhase {
  bool is_running = false;
  dist::Position position;  ///< replica, stage, lane
  int rank = 0;
  int64_t step = 0;
};
const JobPhase& job_phase();

}  // namespace nemo::launch
