// `nemo-dist pack`: a checkpoint in one file, in kernel layout.
#pragma once

#include "launch/command_line.h"

namespace nemo::launch {

/// Writes the pack that `line.pack` asks for and says on stdout what it has written. Returns the exit code.
/// Throws Error, also for more than one rank.
int pack_checkpoint(const CommandLine& line);

}  // namespace nemo::launch
