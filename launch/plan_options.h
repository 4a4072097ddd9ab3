// What --plan may be told: the machine it plans for, and what predictions are made of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dist/plan/cost_model.h"

namespace CLI {
class App;
}

namespace nemo::launch {

struct PlanOptions {
  std::vector<int64_t> num_ranks;            ///< --np 16,64; several make a table
  bool json = false;                         ///< --json
  int64_t ranks_per_host = 1;                ///< --ranks-per-host
  std::optional<int64_t> cores_per_host;     ///< --host-cores; this host's if not given
  std::optional<int64_t> host_memory_bytes;  ///< --host-memory; what this host has free if not given
  std::optional<int64_t> prompt_tokens;      ///< --prompt-tokens
  std::optional<dist::MessageCost> network;  ///< --network 20us,2.5GB/s
  std::string calibration_path;              ///< --calibration; $NEMO_CALIBRATION if not given
  std::vector<std::string> given;            ///< names of those on the command line
};

/// Adds the options to `app`. Parsing it fills `options`, which must live as long, and throws Error(kBadJob)
/// for a value that is none.
void add_plan_options(CLI::App& app, PlanOptions& options);

/// "20us,2.5GB/s" or "100us,10Gbit/s". Throws Error(kBadJob).
dist::MessageCost parse_network(const std::string& text);

/// Reads the calibration file, if one is named. Throws Error(kBadJob).
dist::Rates load_rates(const PlanOptions& options);

}  // namespace nemo::launch
