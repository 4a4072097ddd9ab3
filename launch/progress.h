// How far the job is: counted by the coordinator, shown by the recorder's thread: one live line on a
// terminal, a line now and then in a log.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace nemo::launch {

enum class ProgressStyle { kLive, kLog, kOff };

/// What NEMO_PROGRESS says, or else what stderr is. Under mpirun every rank's stderr is a terminal of its
/// own, so then it is mpirun's that counts. Throws Error for an unknown value.
ProgressStyle detect_progress_style();

/// "3h 05m", "12m 09s", "7.2 s".
std::string duration_text(double seconds);
/// "1,234,567".
std::string count_text(int64_t count);

class Progress {
 public:
  Progress(ProgressStyle style, int64_t num_requests, int64_t num_resumed)
      : style_(style), num_requests_(num_requests), num_resumed_(num_resumed), num_done_(num_resumed) {}

  /// From any thread.
  void set_done(int64_t num_done) { num_done_ = num_done; }
  void set_tokens(int64_t prompt_tokens, int64_t output_tokens) {
    prompt_tokens_ = prompt_tokens;
    output_tokens_ = output_tokens;
  }

  /// The clock of rates and ETA starts now, when weights are there.
  void start();
  /// Shows the state if it is time to. Called often, from one thread.
  void show();
  /// Ends the live line.
  void close();

  int64_t prompt_tokens() const { return prompt_tokens_; }
  int64_t output_tokens() const { return output_tokens_; }
  double seconds() const;

 private:
  std::string line() const;

  const ProgressStyle style_;
  const int64_t num_requests_, num_resumed_;
  std::atomic<int64_t> num_done_;
  std::atomic<int64_t> prompt_tokens_ = 0, output_tokens_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point next_show_{};
  double log_interval_s_ = 1;  ///< grows, so that long runs do not fill the log
  size_t live_width_ = 0;
};

}  // namespace nemo::launch
