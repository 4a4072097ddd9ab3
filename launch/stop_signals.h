// What SIGINT, SIGTERM and SIGUSR1 do while no Recorder listens to them: before the first step and after the
// last.
#pragma once

namespace nemo::launch {

/// They end the process at once with exit code 75: whatever is finished is in the journal, the rest is made
/// again.
void leave_at_signals();

/// They do nothing. Rank 0 alone decides about a stop; a signal that reaches all ranks, as mpirun forwards
/// SIGUSR1, must not kill the others meanwhile.
void ignore_signals();

}  // namespace nemo::launch
