// The command line, parsed and checked.
#pragma once

#include <string>
#include <vector>

#include "launch/plan_options.h"
#include "lib/weights/pack/pack_writer.h"
#include "lib/weights/synthetic/synthesize.h"

namespace nemo::launch {

enum class Command {
  kRun,
  kPlan,
  kInspect,
  kSynth,
  kPack,
  kNothing /* --help or --version: printed already */
};

struct CommandLine {
  Command command = Command::kRun;
  std::string job_path;
  std::vector<std::string> overrides;  ///< --set a.b=value, in order
  bool fresh = false;                  ///< --fresh: discard an earlier run's journal and results
  PlanOptions plan;                    ///< --plan
  std::string checkpoint_path;         ///< inspect CHECKPOINT
  SynthesisOptions synthesis;          ///< synth
  PackOptions pack;                    ///< pack
};

/// Throws Error(kBadJob) saying what is wrong and what to do. --help and --version print to stdout.
CommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace nemo::launch
