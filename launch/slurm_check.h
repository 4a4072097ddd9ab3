// What can be seen of Slurm before MPI starts.
#pragma once

namespace nemo::launch {

/// Throws if srun started several copies of this program that cannot find each other: each would be a job of
/// one rank, and all would run the whole job. To be called before MPI starts, as Open MPI has a less helpful
/// message for it.
void refuse_lone_copies();

}  // namespace nemo::launch
