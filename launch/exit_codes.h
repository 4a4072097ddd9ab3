// What the shell sees..
#pragma once

namespace nemo::launch {

inline constexpr int kExitDone = 0;      ///< all requests have a record
inline constexpr int kExitFailed = 1;    ///< something went wrong; what was done is in the journal
inline constexpr int kExitBadJob = 2;    ///< the job or the command line is wrong; nothing was run
inline constexpr int kExitStopped = 75;  ///< stopped early by a signal or a limit; the same command resumes

}  // namespace nemo::launch
