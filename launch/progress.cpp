#include "launch/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string_view>

#include "kernels/error.h"

namespace nemo::launch {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLiveInterval(250);
constexpr double kLongestLogInterval = 60;

/// Whether the stderr of the process that started us is a terminal: mpirun's, if it started us on this host.
bool parent_has_terminal() {
  std::error_code error;
  const auto target = std::filesystem::read_symlink("/proc/" + std::to_string(getppid()) + "/fd/2", error);
  return !error && (target.string().starts_with("/dev/pts/") || target.string().starts_with("/dev/tty"));
}

std::string rate_text(int64_t tokens, double seconds) {
  char text[32];
  const double rate = seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  std::snprintf(text, sizeof(text), rate < 100 ? "%.1f" : "%.0f", rate);
  return text;
}

}  // namespace

ProgressStyle detect_progress_style() {
  if (const char* wish = std::getenv("NEMO_PROGRESS")) {
    const std::string_view style = wish;
    if (style == "live") return ProgressStyle::kLive;
    if (style == "log") return ProgressStyle::kLog;
    if (style == "off") return ProgressStyle::kOff;
    throw Error("NEMO_PROGRESS", "unknown value '" + std::string(style) + "'", "use live, log or off",
                ErrorKind::kBadJob);
  }
  const bool under_mpirun = std::getenv("OMPI_COMM_WORLD_RANK") != nullptr;
  const bool terminal = under_mpirun ? parent_has_terminal() : isatty(STDERR_FILENO) == 1;
  return terminal ? ProgressStyle::kLive : ProgressStyle::kLog;
}

std::string duration_text(double seconds) {
  char text[32];
  const auto whole = static_cast<int64_t>(seconds);
  if (seconds < 60) {
    std::snprintf(text, sizeof(text), "%.1f s", seconds);
  } else if (seconds < 3600) {
    std::snprintf(text, sizeof(text), "%dm %02ds", static_cast<int>(whole / 60),
                  static_cast<int>(whole % 60));
  } else {
    std::snprintf(text, sizeof(text), "%dh %02dm", static_cast<int>(whole / 3600),
                  static_cast<int>(whole / 60 % 60));
  }
  return text;
}

std::string count_text(int64_t count) {
  std::string digits = std::to_string(count);
  for (auto i = static_cast<int64_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<size_t>(i), ",");
  return digits;
}

void Progress::start() {
  start_ = Clock::now();
}

double Progress::seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

std::string Progress::line() const {
  const double elapsed = seconds();
  const int64_t done = num_done_;
  std::string text = count_text(done) + "/" + count_text(num_requests_) + " done, " +
                     rate_text(prompt_tokens_, elapsed) + " tokens/s in, " +
                     rate_text(output_tokens_, elapsed) + " tokens/s out";
  const int64_t done_now = done - num_resumed_;
  if (done_now > 0 && done < num_requests_) {
    const double left = elapsed / static_cast<double>(done_now) * static_cast<double>(num_requests_ - done);
    text += ", about " + duration_text(left) + " left";
  }
  return text;
}

void Progress::show() {
  if (style_ == ProgressStyle::kOff || Clock::now() < next_show_) return;
  if (style_ == ProgressStyle::kLive) {
    next_show_ = Clock::now() + kLiveInterval;
    std::string text = line();
    const size_t width = text.size();
    text.append(live_width_ > width ? live_width_ - width : 0, ' ');  // covers a longer line before
    live_width_ = width;
    std::cerr << '\r' << text << std::flush;
    return;
  }
  std::cerr << line() << '\n' << std::flush;
  next_show_ = Clock::now() +
               std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(log_interval_s_));
  log_interval_s_ = std::min(log_interval_s_ * 2, kLongestLogInterval);
}

void Progress::close() {
  next_show_ = {};
  show();
  if (style_ == ProgressStyle::kLive) std::cerr << '\n' << std::flush;
}

}  // namespace nemo::launch
