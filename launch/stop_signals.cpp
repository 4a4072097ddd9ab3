#include "launch/stop_signals.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
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

bool is_spokesman = true;

// Async-signal-safe: no exit handlers, no streams.
void leave(int) {
  constexpr std::string_view kMessage =
      "nemo-dist: stopped by a signal; what is done is safe, the same command resumes\n";
  if (is_spokesman) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  }
  ::_exit(kExitStopped);
}

}  // namespace

void leave_at_signals() {
  // Before MPI_Init only the environment knows the rank; one message is enough for all.
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  is_spokesman = rank == nullptr || std::string_view(rank) == "0";
  set_action(leave);
}

void ignore_signals() {
  set_action(SIG_IGN);
}

}  // namespace nemo::launch
