#include "launch/pack_command.h"

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "kernels/error.h"
#include "launch/exit_codes.h"
#include "launch/progress.h"

namespace nemo::launch {

namespace {

/// Several copies would write the same file at once.
void refuse_several_ranks() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (const char* size = std::getenv(name); size != nullptr && std::string(size) != "1")
      throw Error("nemo-dist pack", "was started on " + std::string(size) + " ranks, but packs on one",
                  "start it without mpirun or srun", ErrorKind::kBadJob);
}

}  // namespace

int pack_checkpoint(const CommandLine& line) {
  refuse_several_ranks();
  const auto start = std::chrono::steady_clock::now();
  const PackSummary written = write_pack(line.pack);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::cout << line.pack.out_path << ": tensors " << count_text(written.num_tensors) << ", "
            << count_text(static_cast<int64_t>(written.num_bytes)) << " bytes in " << duration_text(seconds)
            << '\n';
  return kExitDone;
}

}  // namespace nemo::launch
