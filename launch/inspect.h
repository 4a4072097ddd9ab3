// `nemo-dist inspect CHECKPOINT`: what a checkpoint holds, from its headers alone.
#pragma once

#include "launch/command_line.h"

namespace nemo::launch {

/// Prints model, layers, parameters and tensors of `line.checkpoint_path` to stdout. Returns the exit code.
/// Throws Error for a checkpoint that could not be run, with the same message a run would give.
int print_checkpoint(const CommandLine& line);

}  // namespace nemo::launch
