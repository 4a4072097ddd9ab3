#include "launch/command_line.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "kernels/error.h"
#include "launch/build_info.h"
#include "lib/config/job_schema.h"

namespace nemo::launch {

namespace {

constexpr const char* kAbout =
    "Runs Nemotron-H and Nemotron 3 models over many machines with MPI.\n\n"
    "  mpirun -np 16 nemo-dist --job job.yaml            run a job; the same command again resumes it\n"
    "  nemo-dist --job job.yaml --plan --np 16           what fits where, without MPI and without weights\n"
    "  nemo-dist inspect CHECKPOINT                      what a checkpoint holds\n";

constexpr const char* kFooter =
    "Exit codes: 0 all done, 1 failed, 2 bad job or command line, 75 stopped early and resumable.\n"
    "Environment: NEMO_ISA=scalar|avx2|avx512|avx512bf16 lowers the instruction set, NEMO_PYTHON names the "
    "python3\n"
    "with jinja2 that renders chat templates, NEMO_PROGRESS=live|log|off chooses how progress is shown.";

void require(bool condition, const std::string& what, const std::string& remedy) {
  if (!condition) throw Error("command line", what, remedy, ErrorKind::kBadJob);
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine line;
  bool plan = false;
  int64_t num_ranks = 0;
  CLI::App app(kAbout, "nemo-dist");
  app.footer("Keys of a job:\n" + describe_job_keys() + "\n" + kFooter);
  app.set_version_flag("--version",
                       std::string("nemo-dist ") + kVersion + " (" + kCompiler + ", " + kBuildType + ")");
  app.add_option("--job", line.job_path, "the job, a YAML file")->type_name("FILE");
  app.add_option("--set", line.overrides, "override a key of the job, e.g. --set sampling.seed=7")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_flag("--fresh", line.fresh, "discard the output of an earlier run instead of resuming it");
  app.add_flag("--plan", plan, "print what would run where, and run nothing");
  CLI::Option* np = app.add_option("--np", num_ranks, "with --plan: the number of ranks")->type_name("N");
  app.add_flag("--json", line.json, "with --plan: as JSON");
  CLI::App* inspect = app.add_subcommand("inspect", "print what a checkpoint holds");
  inspect->add_option("checkpoint", line.checkpoint_path, "a Hugging Face folder")->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    app.exit(success, std::cout, std::cerr);
    line.command = Command::kNothing;
    return line;
  } catch (const CLI::ParseError& error) {
    throw Error("command line", error.what(), "see nemo-dist --help", ErrorKind::kBadJob);
  }
  if (inspect->parsed()) {
    line.command = Command::kInspect;
    return line;
  }
  require(!line.job_path.empty(), "no job given", "nemo-dist --job job.yaml; see nemo-dist --help");
  require(plan || np->count() == 0, "--np is for --plan", "the number of ranks of a run is mpirun's -np");
  require(plan || !line.json, "--json is for --plan", "add --plan or drop --json");
  require(np->count() == 0 || num_ranks >= 1, "--np must be at least 1", "e.g. --np 16");
  if (np->count() > 0) line.num_ranks = num_ranks;
  line.command = plan ? Command::kPlan : Command::kRun;
  return line;
}

}  // namespace nemo::launch
