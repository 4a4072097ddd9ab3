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
    "  nemo-dist inspect CHECKPOINT                      what a checkpoint holds\n"
    "  nemo-dist pack --model FOLDER --out FILE.h5       a checkpoint in one file, ready for the kernels\n"
    "  nemo-dist synth --config FOLDER --out FOLDER      a checkpoint of true widths with random weights\n";

constexpr const char* kFooter =
    "Exit codes: 0 all done, 1 failed, 2 bad job or command line, 75 stopped early and resumable.\n"
    "Environment: NEMO_ISA=scalar|avx2|avx512|avx512bf16|amx lowers the instruction set, NEMO_PYTHON names "
    "the "
    "python3\n"
    "with jinja2 that renders chat templates, NEMO_PROGRESS=live|log|off chooses how progress is shown.";

void require(bool condition, const std::string& what, const std::string& remedy) {
  if (!condition) throw Error("command line", what, remedy, ErrorKind::kBadJob);
}

CLI::App* add_inspect(CLI::App& app, CommandLine& line) {
  CLI::App* inspect = app.add_subcommand("inspect", "print what a checkpoint holds");
  inspect->footer("");
  inspect->add_option("checkpoint", line.checkpoint_path, "a Hugging Face folder or a pack")->required();
  return inspect;
}

CLI::App* add_synth(CLI::App& app, CommandLine& line) {
  CLI::App* synth = app.add_subcommand(
      "synth", "write a checkpoint of a model's true widths with random weights, which runs at once");
  synth->footer("");
  SynthesisOptions& options = line.synthesis;
  synth
      ->add_option("--config", options.config_path,
                   "the model: a config.json or its folder, as in configs/models")
      ->required()
      ->type_name("PATH");
  synth->add_option("--out", options.out_folder, "the checkpoint's folder, new or empty")
      ->required()
      ->type_name("FOLDER");
  synth
      ->add_option("--layers", options.layers,
                   "which layers, counted from 0, e.g. 0-3,7; without it all of them")
      ->type_name("LIST");
  synth
      ->add_option_function<std::string>(
          "--quant",
          [&options](const std::string& format) {
            options.quantization = format == "fp8"     ? StoredAs::kFp8
                                   : format == "nvfp4" ? StoredAs::kNvfp4
                                                       : StoredAs::kPlain;
          },
          "how the linear layers are stored that NVIDIA's releases quantize (not attention, router and "
          "lm_head); bf16 without it")
      ->check(CLI::IsMember({"bf16", "fp8", "nvfp4"}))
      ->type_name("FORMAT");
  synth->add_option("--seed", options.seed, "another seed, other weights; 0 without it")->type_name("N");
  return synth;
}

CLI::App* add_pack(CLI::App& app, CommandLine& line) {
  CLI::App* pack = app.add_subcommand(
      "pack", "write a checkpoint as one HDF5 file in kernel layout, so that loading is reading");
  pack->footer(
      "model.path of a job may name the pack. Under mpirun, each rank packs a share. A rank holds one matrix "
      "at a time.");
  pack->add_option("--model", line.pack.model_path, "the checkpoint, a Hugging Face folder")
      ->required()
      ->type_name("FOLDER");
  pack->add_option("--out", line.pack.out_path, "the pack, e.g. model.h5; must not be there yet")
      ->required()
      ->type_name("FILE");
  pack->add_option_function<std::string>(
          "--dtype",
          [&line](const std::string& dtype) {
            line.pack.dtype = dtype == "float32" ? kernels::DType::kFloat32 : kernels::DType::kBFloat16;
          },
          "what unquantized matrices are kept as, model.dtype of the jobs; bfloat16 without it")
      ->check(CLI::IsMember({"bfloat16", "float32"}))
      ->type_name("DTYPE");
  return pack;
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine line;
  bool plan = false;
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
  add_plan_options(app, line.plan);
  const CLI::App* inspect = add_inspect(app, line);
  const CLI::App* synth = add_synth(app, line);
  const CLI::App* pack = add_pack(app, line);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    app.exit(success, std::cout, std::cerr);
    line.command = Command::kNothing;
    return line;
  } catch (const CLI::ParseError& error) {
    throw Error("command line", error.what(), "see nemo-dist --help", ErrorKind::kBadJob);
  }
  for (const auto& [parsed, command] :
       {std::pair(inspect, Command::kInspect), {synth, Command::kSynth}, {pack, Command::kPack}}) {
    if (!parsed->parsed()) continue;
    line.command = command;
    return line;
  }
  require(!line.job_path.empty(), "no job given", "nemo-dist --job job.yaml; see nemo-dist --help");
  require(plan || line.plan.given.empty(),
          (line.plan.given.empty() ? "" : line.plan.given.front()) + " is for --plan",
          "add --plan; the number of ranks of a run is mpirun's -np");
  line.command = plan ? Command::kPlan : Command::kRun;
  return line;
}

}  // namespace nemo::launch
