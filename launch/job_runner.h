// JobRunner: a job from file to results, in phases that all ranks end together.
#pragma once

#include "dist/comm/mpi_session.h"
#include "dist/plan/plan.h"
#include "launch/command_line.h"

namespace nemo::launch {

/// Runs the job of `line` on all ranks of the running MpiSession. Returns the exit code. Throws AgreedError,
/// alike on every rank, for what a phase found; any other error on the rank that found the trouble alone (see
/// JobPhase).
int run_job(const CommandLine& line);

/// What this rank is doing while steps run, for the message of an error.
struct JobPhase {
  bool is_running = false;
  dist::Position position;  ///< replica, stage, lane
  int64_t step = 0;
};
const JobPhase& job_phase();

}  // namespace nemo::launch
