#include "launch/job_runner.h"

#include <algorithm>
#include <optional>

#include "dist/comm/communicator.h"
#include "dist/pipeline/engine.h"
#include "dist/pipeline/process_grid.h"
#include "dist/pipeline/stage.h"
#include "dist/plan/plan.h"
#include "dist/schedule/lane_client.h"
#include "launch/exit_codes.h"
#include "launch/head_office.h"
#include "launch/machine.h"
#include "launch/stop_signals.h"
#include "launch/traffic.h"
#include "lib/config/job_config.h"
#include "lib/config/model_config.h"
#include "lib/text/tokenizer.h"

namespace nemo::launch {

namespace {

/// How long one rank waits for another before the job file's limits.wait_deadline is known.
constexpr std::chrono::minutes kStartDeadline(5);

JobPhase& phase() {
  static JobPhase phase;
  return phase;
}

kernels::DType kernel_dtype(ActivationType dtype) {
  return dtype == ActivationType::kBFloat16 ? kernels::DType::kBFloat16 : kernels::DType::kFloat32;
}

/// The values every rank computes for itself and must agree on.
struct Setup {
  JobConfig job;
  ModelConfig model;
  dist::Plan plan;
  kernels::Isa isa = kernels::Isa::kScalar;
};

Setup set_up(dist::Communicator& world, const CommandLine& line) {
  Setup setup;
  dist::agree_on_error(world, "reading the job", [&] {
    setup.job = load_job_config(line.job_path, line.overrides);
    setup.model = load_model_config(setup.job.model_path);
    kernels::detect_isa();  // so that a wrong NEMO_ISA is an error of this phase
  });
  setup.isa = agree_on_isa(world);
  const dist::Machine machine = survey_machine(world, setup.job);
  dist::agree_on_error(world, "planning",
                       [&] { setup.plan = dist::make_plan(setup.model, setup.job, machine); });
  dist::agree_on_error(world, "comparing plans", [&] {
    const std::string mine = dist::plan_fingerprint(setup.plan);
    if (world.broadcast(mine, 0, "rank 0's plan") != mine)
      throw Error("rank " + std::to_string(world.rank()), "its plan differs from rank 0's",
                  "all ranks must see the same job file, config.json and build of nemo-dist");
  });
  return setup;
}

std::vector<std::string> all_hosts(dist::Communicator& world) {
  std::vector<std::string> hosts = world.all_gather(dist::MpiSession::host_name(), "all host names");
  std::ranges::sort(hosts);
  hosts.erase(std::unique(hosts.begin(), hosts.end()), hosts.end());
  return hosts;
}

dist::SchedulerLimits scheduler_limits(const Setup& setup) {
  const dist::Plan& plan = setup.plan;
  return {
      .max_sequences = plan.max_sequences,
      .max_batch_tokens = plan.max_batch_tokens,
      .prefill_chunk = plan.prefill_chunk,
      .kv_pages = plan.kv_pages,
      .needs_pages = std::ranges::any_of(
          setup.model.layers, [](const LayerConfig& layer) { return layer.kind == LayerKind::kAttention; }),
      .max_context = setup.model.max_position_embeddings,
      .micro_batches = plan.layout.pipeline};
}

/// Everybody's value at every rank.
std::vector<int64_t> by_rank(dist::Communicator& world, int64_t mine, const char* what) {
  std::vector<int64_t> values(static_cast<size_t>(world.size()));
  values[static_cast<size_t>(world.rank())] = mine;
  return world.all_sum(values, what);
}

/// Lanes of a stage, and replicas, hold the same weights, experts aside; they may share a host.
Readers readers_of(const dist::Layout& layout) {
  return layout.expert * layout.replicas > 1 ? Readers::kOthersToo : Readers::kThisOne;
}

/// Runs this rank's engine to its end; on lane heads with scheduler and line to the coordinator. Returns what
/// all ranks sent, once all are done.
Traffic run_engine(dist::Communicator& world, dist::ProcessGrid& grid, dist::Stage& stage, const Setup& setup,
                   const Tokenizer* tokenizer, HeadOffice* office) {
  std::optional<dist::Scheduler> scheduler;
  std::optional<dist::LaneClient> client;
  if (grid.is_first_stage()) {
    scheduler.emplace(scheduler_limits(setup), dist::EndOfText{setup.model.eos_token_ids}, *tokenizer);
    client.emplace(world, office != nullptr ? office->open_for_business(world) : std::function<void()>());
  }
  dist::Engine engine(grid, stage, setup.plan.max_sequences, scheduler ? &*scheduler : nullptr,
                      client ? &*client : nullptr, [&](int64_t step) { phase().step = step; });
  engine.run();
  if (client) client->finish(*scheduler);
  if (office != nullptr) office->wait_for_lanes();
  world.flush("the last messages to be taken");
  return add_up_traffic(world, grid, stage, engine);
}

}  // namespace

const JobPhase& job_phase() {
  return phase();
}

int run_job(const CommandLine& line) {
  dist::Communicator everybody = dist::Communicator::world(kStartDeadline);
  const bool is_root = everybody.rank() == 0;
  if (!is_root) ignore_signals();
  const Setup setup = set_up(everybody, line);
  dist::Communicator world = dist::Communicator::world(wait_deadline(setup.job));
  dist::ProcessGrid grid(world, setup.plan);
  const std::vector<std::string> hosts = all_hosts(world);

  std::optional<Tokenizer> tokenizer;
  std::optional<HeadOffice> office;
  dist::agree_on_error(world, "opening output, input and tokenizer", [&] {
    if (grid.is_first_stage()) tokenizer = Tokenizer::load(setup.job.model_path);
    if (!is_root) return;
    office.emplace(RunFacts{.job = setup.job,
                            .model = setup.model,
                            .plan = setup.plan,
                            .isa = setup.isa,
                            .hosts = hosts,
                            .mpi_version = dist::MpiSession::library_version(),
                            .fresh = line.fresh ? Fresh::kYes : Fresh::kNo},
                   *tokenizer);
  });

  LoadFacts load;
  Traffic traffic;
  const int64_t work = is_root && office->has_work() ? 1 : 0;
  if (world.all_max({&work, 1}, "rank 0 to look for work").front() > 0) {
    const auto start = std::chrono::steady_clock::now();
    kernels::ThreadPool threads(static_cast<int>(setup.plan.threads));
    const kernels::Context context{threads, setup.isa, kernel_dtype(setup.job.dtype)};
    std::optional<dist::Stage> stage;
    int64_t bytes_read = 0;
    dist::agree_on_error(world, "loading weights", [&] {
      const Checkpoint checkpoint =
          Checkpoint::open(setup.job.model_path, setup.model, readers_of(setup.plan.layout));
      stage.emplace(setup.model, setup.plan, grid, checkpoint, context);
      bytes_read = static_cast<int64_t>(checkpoint.bytes_read());
    });
    load.bytes_read = by_rank(world, bytes_read, "the bytes every rank read");
    load.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

    phase() = {.is_running = true, .position = grid.position, .step = 0};
    try {
      traffic = run_engine(world, grid, *stage, setup, tokenizer ? &*tokenizer : nullptr,
                           office ? &*office : nullptr);
    } catch (...) {
      if (is_root) office->save_what_is_done();
      throw;
    }
    phase() = {};
  }

  int exit_code = kExitDone;
  dist::agree_on_error(world, "writing results", [&] {
    if (is_root) exit_code = office->close(load, traffic);
  });
  const int64_t code = exit_code;
  return static_cast<int>(world.all_max({&code, 1}, "rank 0's exit code").front());
}

}  // namespace nemo::launch
