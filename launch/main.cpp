// nemo-dist: one binary, one YAML file. Everything else is in the folders to the left of this one.
#include <cstdlib>
#include <iostream>

#include "dist/comm/communicator.h"
#include "dist/comm/mpi_session.h"
#include "kernels/error.h"
#include "launch/command_line.h"
#include "launch/exit_codes.h"
#include "launch/inspect.h"
#include "launch/job_runner.h"
#include "launch/pack_command.h"
#include "launch/plan_command.h"
#include "launch/slurm_check.h"
#include "launch/stop_signals.h"
#include "launch/synth_command.h"

namespace {

using nemo::Error;
using nemo::ErrorKind;
using nemo::launch::Command;
using nemo::launch::CommandLine;

int exit_code_of(const Error& error) {
  return error.kind() == ErrorKind::kBadJob ? nemo::launch::kExitBadJob : nemo::launch::kExitFailed;
}

void print_error(const std::string& text) {
  std::cerr << "nemo-dist: " << text << '\n' << std::flush;
}

/// Ranks that have not agreed on an error stand at different places and cannot leave in order: whoever finds
/// trouble says where and ends the job for all.
[[noreturn]] void abort_run(int rank, const std::string& text) {
  const nemo::launch::JobPhase& phase = nemo::launch::job_phase();
  std::string where = "rank " + std::to_string(rank) + " on " + nemo::dist::MpiSession::host_name();
  if (phase.is_running)
    where += " (replica " + std::to_string(phase.position.replica) + ", stage " +
             std::to_string(phase.position.stage) + ", lane " + std::to_string(phase.position.lane) +
             ", step " + std::to_string(phase.step) + ")";
  print_error(where + ": " + text);
  nemo::dist::MpiSession::abort(nemo::launch::kExitFailed);
}

/// Runs a command that every rank takes part in.
int run(int argc, char** argv, const CommandLine& line, int (*command)(const CommandLine&)) {
  nemo::launch::refuse_lone_copies();
  nemo::dist::MpiSession session(argc, argv);
  try {
    return command(line);
  } catch (const nemo::dist::AgreedError& error) {
    if (session.world_rank() == 0) print_error(error.what());  // the same on every rank
    return exit_code_of(error);
  } catch (const std::exception& error) {
    abort_run(session.world_rank(), error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const CommandLine line = nemo::launch::parse_command_line(argc, argv);
    switch (line.command) {
      case Command::kNothing:
        return nemo::launch::kExitDone;
      case Command::kPlan:
        return nemo::launch::print_plan(line);
      case Command::kInspect:
        return nemo::launch::print_checkpoint(line);
      case Command::kPack:
        return run(argc, argv, line, nemo::launch::pack_checkpoint);
      case Command::kSynth:
        return nemo::launch::write_synthetic_checkpoint(line);
      case Command::kRun:
        nemo::launch::leave_at_signals();
        return run(argc, argv, line, nemo::launch::run_job);
    }
  } catch (const Error& error) {
    // Every rank comes here with the same bad command line; one message is enough.
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    if (rank == nullptr) rank = std::getenv("SLURM_PROCID");  // under srun
    if (rank == nullptr || std::string(rank) == "0") print_error(error.what());
    return exit_code_of(error);
  } catch (const std::exception& error) {
    print_error(error.what());
  }
  return nemo::launch::kExitFailed;
}
