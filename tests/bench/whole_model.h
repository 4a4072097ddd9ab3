// A checkpoint's layers and head as one rank runs them, prompts and generation apart.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/bench/ceilings.h"

namespace nemo::bench {

struct ModelRow {
  std::string name;  ///< "prefill, 8 sequences x 64 rows"
  double tokens_per_s = 0;
  double fraction_of_floor = 0;  ///< the longer of bytes at the read bandwidth and operations at the peak
  std::optional<double> of_one_thread;  ///< tokens/s over those of one thread, in turn; of prefill
};

/// Steps of 1, 8 and 32 sequences. Loads the Hugging Face folder `path`, all of it, in bfloat16 or as it is
/// quantized. Throws Error.
std::vector<ModelRow> measure_model(const std::string& path, kernels::ThreadPool& threads,
                                    const Ceilings& ceilings);

}  // namespace nemo::bench
