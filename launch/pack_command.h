// `nemo-dist pack`: a checkpoint in one file, in kernel layout.
#pragma once

#include "launch/command_line.h"

namespace nemo::launch {

/// Writes the pack that `line.pack` asks for, each rank its share, and says on stdout what was written. Call
/// on every rank, within an MpiSession. Returns the exit code. Throws AgreedError.
int pack_checkpoint(const CommandLine& line);

}  // namespace nemo::launch
