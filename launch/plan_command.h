// `nemo-dist --job J --plan [--np N[,N...]] [--json] ...`: needs no MPI and no weights, only the job and
// config.json.
#pragma once

#include "launch/command_line.h"

namespace nemo::launch {

/// Prints the plan to stdout. Returns the exit code. Throws Error.
int print_plan(const CommandLine& line);

}  // namespace nemo::launch
