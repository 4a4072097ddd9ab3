// Recorder: rank 0's second thread. Writes finished records to the journal and syncs it, shows progress,
// takes signals and watches the clock, so that the main thread only computes and talks MPI.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <vector>

#include "launch/progress.h"
#include "lib/output/journal.h"

namespace nemo::launch {

/// Why a run ends before its work does.
enum class StopReason { kNone, kSignal, kTimeLimit, kStopFile };

struct RecorderOptions {
  std::optional<double> max_time_s;  ///< from `start` on
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  std::string stop_file;  ///< its appearance stops the run
};

class Recorder {
 public:
  /// Takes the journal over and starts the thread. From now on SIGINT, SIGTERM and SIGUSR1 ask for a stop; a
  /// second one ends the process at once, with what is done on disk. `progress` must outlive the recorder.
  Recorder(JournalWriter journal, Progress& progress, RecorderOptions options);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  /// A request is finished. Durable within a fraction of a second. Any thread.
  void submit(Record record);
  /// A request has come so far. As durable as a finished one.
  void submit(SampleProgress progress);

  /// What an earlier run has left of the outputs of request `index`, as Request::prior_outputs has it. Any
  /// thread.
  std::vector<Output> prior_outputs(int64_t index, int64_t num_samples) const;

  /// Whether the request was done when asked. Any thread.
  bool done(int64_t index) const;

  StopReason stop_reason() const { return stop_reason_; }

  /// Rethrows what went wrong with the journal (a full disk), on the caller's thread.
  void rethrow_if_failed();

  /// Makes everything durable, ends the thread and gives the journal back. Throws what went wrong.
  JournalWriter finish();

 private:
  struct Loop;
  void stop(StopReason reason);
  enum class Urgency { kCanWait, kNow };
  void commit(Urgency urgency);
  /// Notes in the journal what was computed, once a second or now.
  void note_work(Urgency urgency);
  void tick();
  void handle_signal();
  /// Runs `work` on the recorder's thread and keeps its exception for rethrow_if_failed.
  template <class Work>
  void guarded(Work&& work);

  Progress& progress_;
  const RecorderOptions options_;
  mutable std::mutex journal_mutex_;
  std::optional<JournalWriter> journal_;
  std::atomic<StopReason> stop_reason_ = StopReason::kNone;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  const std::unordered_set<int64_t> begun_;  ///< requests with progress of an earlier run
  const WorkDone earlier_work_;
  WorkDone noted_work_;
  std::chrono::steady_clock::time_point last_noted_{};
  std::unique_ptr<Loop> loop_;
  std::thread thread_;
};

}  // namespace nemo::launch
