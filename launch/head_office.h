// HeadOffice: what only rank 0 has: the output folder with its journal, the input and its reader, the
// coordinator and the results.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "dist/comm/communicator.h"
#include "dist/plan/plan.h"
#include "kernels/context.h"
#include "launch/coordinator.h"
#include "launch/traffic.h"
#include "lib/config/job_config.h"
#include "lib/config/model_config.h"
#include "lib/output/manifest.h"
#include "lib/output/output_folder.h"
#include "lib/text/chat_template.h"
#include "lib/text/tokenizer.h"

namespace nemo::launch {

/// limits.wait_deadline.
std::chrono::seconds wait_deadline(const JobConfig& job);

/// What the office needs to know of the run.
struct RunFacts {
  const JobConfig& job;
  const ModelConfig& model;
  const dist::Plan& plan;
  kernels::Isa isa = kernels::Isa::kScalar;
  std::vector<std::string> hosts;  ///< each once
  std::string mpi_version;
  Fresh fresh = Fresh::kNo;
};

/// How the weights came to the ranks; nothing of it where there was no work.
struct LoadFacts {
  double seconds = 0;
  std::vector<int64_t> bytes_read;  ///< by rank
};

class HeadOffice {
 public:
  /// Opens output and input and continues or starts the journal. `facts` and `tokenizer` must outlive it.
  /// Throws Error.
  HeadOffice(RunFacts facts, const Tokenizer& tokenizer);

  /// Whether any request is not done yet: weights are loaded only then.
  bool has_work() const { return num_resumed_ < num_requests_; }

  /// Starts reading, recording and coordinating. Returns what the own lane calls between its steps.
  std::function<void()> open_for_business(dist::Communicator& world);

  /// Waits until all lanes are done and everything is durable. Call once, after the own lane's engine has
  /// ended.
  void wait_for_lanes();

  /// Writes results and manifest, prints the last lines. Returns the exit code.
  int close(const LoadFacts& load, const Traffic& traffic);

  /// Makes durable what is finished, after an error elsewhere.
  void save_what_is_done() noexcept;

 private:
  std::string stop_file() const { return folder_.path() + "/stop"; }
  PromptSource open_input();
  Identity identity() const;
  Manifest manifest(RunStatus status) const;
  WeightBytes weight_bytes(const LoadFacts& load) const;
  void write_result_files(Manifest& manifest);
  [[noreturn]] void throw_misfits(const Manifest& manifest) const;
  void print_summary(const Manifest& manifest, StopReason reason) const;

  RunFacts facts_;
  const Tokenizer& tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::string kv_cache_;  ///< for the manifest
  OutputFolder folder_;
  std::optional<JournalWriter> journal_;  ///< while no recorder has it
  int64_t num_requests_ = 0;
  int64_t num_resumed_ = 0;
  std::optional<Progress> progress_;
  std::optional<Recorder> recorder_;
  std::optional<RequestReader> reader_;
  std::optional<Coordinator> coordinator_;
  const std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();  ///< limits.max_time counts
  StopReason stop_reason_ = StopReason::kNone;
  double run_seconds_ = 0;
};

}  // namespace nemo::launch
