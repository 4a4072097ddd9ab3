#include "launch/stop_signals.h"

#include <unistd.h>

#include <csignal>
#include <string_view>

#include "launch/exit_codes.h"

namespace nemo::launch {

namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1};

void set_action(void (*action)(int)) {
  struct sigaction handler {};
  handler.sa_handler = action;
  sigemptyset(&handler.sa_mask);
  for (const int signal : kSignals) sigaction(signal, &handler, nullptr);
}

// Async-signal-safe: no exit handlers, no streams.
void leave(int) {
  constexpr std::string_view kMessage =
      "nemo-dist: stopped by a signal; what is done is safe, the same command resumes\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  ::_exit(kExitStopped);
}

}  // namespace

void leave_at_signals() {
  set_action(leave);
}

void ignore_signals() {
  set_action(SIG_IGN);
}

}  // namespace nemo::launch
