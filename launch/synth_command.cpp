#include "launch/synth_command.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include "launch/exit_codes.h"
#include "launch/progress.h"

namespace nemo::launch {

int write_synthetic_checkpoint(const CommandLine& line) {
  const auto start = std::chrono::steady_clock::now();
  kernels::ThreadPool threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const Synthesis written = synthesize_checkpoint(threads, line.synthesis);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::cout << line.synthesis.out_folder << ": layers " << count_text(written.num_layers) << ", tensors "
            << count_text(written.num_tensors) << ", " << count_text(static_cast<int64_t>(written.num_bytes))
            << " bytes in " << duration_text(seconds) << '\n';
  return kExitDone;
}

}  // namespace nemo::launch
