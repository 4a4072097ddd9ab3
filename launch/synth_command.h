// `nemo-dist synth`: a checkpoint with random weights.
#pragma once

#include "launch/command_line.h"

namespace nemo::launch {

/// Writes the checkpoint that `line.synthesis` asks for, with all cores, and says on stdout what it has
/// written. Returns the exit code. Throws Error.
int write_synthetic_checkpoint(const CommandLine& line);

}  // namespace nemo::launch
