#include "launch/slurm_check.h"

#include <cstdlib>
#include <string>

#include "kernels/error.h"

namespace nemo::launch {

void refuse_lone_copies() {
  // srun alone sets this; sbatch and salloc do not, so a single process in an allocation is what its user
  // wanted.
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  if (tasks == nullptr || std::atoi(tasks) <= 1) return;
  // One of these tells MPI of the other ranks. mpirun starts its helpers with srun, hence the second.
  for (const char* variable : {"PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK"})
    if (std::getenv(variable) != nullptr) return;
  throw Error("srun", "started " + std::string(tasks) + " copies that know nothing of each other",
              "use srun --mpi=pmix (Debian: install libpmix2 on every node), or mpirun inside the allocation",
              ErrorKind::kBadJob);
}

}  // namespace nemo::launch
