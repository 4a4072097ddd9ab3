#include "lib/text/python_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/error.h"

namespace nemo {
namespace {

// More than a line of the largest size can become; a larger length is not one.
constexpr uint64_t kMaxFrameBytes = 1ULL << 30;

// Undoes itself at the end of its scope, whether or not an error ends it.
struct SpawnSettings {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
};

void configure(SpawnSettings& settings, int child_socket) {
  posix_spawn_file_actions_adddup2(&settings.actions, child_socket, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&settings.actions, child_socket, STDOUT_FILENO);
  // A socket of MPI that stayed open in the child would hide our end from the other ranks.
  posix_spawn_file_actions_addclosefrom_np(&settings.actions, STDERR_FILENO + 1);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&settings.attributes, &none);
  posix_spawnattr_setsigdefault(&settings.attributes, &all);
  posix_spawnattr_setpgroup(&settings.attributes,
                            0);  // Ctrl-C is ours to handle; the child follows when its input ends
  posix_spawnattr_setflags(&settings.attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
}

std::vector<std::string> child_environment() {
  std::vector<std::string> environment = {"LC_ALL=C.UTF-8"};
  for (const char* name : {"PATH", "LD_LIBRARY_PATH", "TZ"}) {
    if (const char* value = std::getenv(name)) environment.push_back(std::string(name) + "=" + value);
  }
  return environment;
}

}  // namespace

PythonChild::PythonChild(const std::string& python, const char* script) {
  std::array<int, 2> sockets{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0) {
    throw Error("socketpair", std::strerror(errno), "raise the limit of open files");
  }
  SpawnSettings settings;
  configure(settings, sockets[1]);
  std::vector<std::string> arguments = {python, "-I", "-c", script};
  std::vector<std::string> environment = child_environment();
  const auto pointers = [](std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (std::string& text : texts) result.push_back(text.data());
    result.push_back(nullptr);
    return result;
  };
  const int rc = posix_spawn(&pid_, python.c_str(), &settings.actions, &settings.attributes,
                             pointers(arguments).data(), pointers(environment).data());
  close(sockets[1]);
  if (rc != 0) {
    close(sockets[0]);
    throw Error(python, std::string("cannot be started: ") + std::strerror(rc),
                "chats need Python: apt-get install python3-jinja2, or name another python3 in NEMO_PYTHON");
  }
  socket_ = sockets[0];
}

PythonChild::~PythonChild() {
  close(socket_);
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

PythonChild::Status PythonChild::wait_for(short events, Deadline deadline) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return Status::kTimedOut;
    pollfd entry{socket_, events, 0};
    const int rc = poll(&entry, 1, static_cast<int>(std::min<int64_t>(left, 1'000'000)));
    if (rc > 0) return Status::kAnswered;
    if (rc < 0 && errno != EINTR) return Status::kEnded;
  }
}

PythonChild::Status PythonChild::send_all(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    if (const Status status = wait_for(POLLOUT, deadline); status != Status::kAnswered) return status;
    // MSG_NOSIGNAL: a child that ended must not end us by SIGPIPE.
    const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EINTR && errno != EAGAIN) return Status::kEnded;
    if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return Status::kAnswered;
}

PythonChild::Status PythonChild::receive_all(char* bytes, size_t count, Deadline deadline) {
  while (count > 0) {
    if (const Status status = wait_for(POLLIN, deadline); status != Status::kAnswered) return status;
    const ssize_t received = recv(socket_, bytes, count, MSG_DONTWAIT);
    if (received == 0 || (received < 0 && errno != EINTR && errno != EAGAIN)) return Status::kEnded;
    if (received < 0) continue;
    bytes += received;
    count -= static_cast<size_t>(received);
  }
  return Status::kAnswered;
}

PythonChild::Answer PythonChild::exchange(std::string_view payload, std::chrono::milliseconds timeout) {
  const Deadline deadline = std::chrono::steady_clock::now() + timeout;
  std::array<char, 8> length{};
  for (size_t i = 0; i < length.size(); ++i) length[i] = static_cast<char>(payload.size() >> (8 * i) & 0xFF);
  Answer answer;
  answer.status = send_all({length.data(), length.size()}, deadline);
  if (answer.status == Status::kAnswered) answer.status = send_all(payload, deadline);
  // A child that ends without reading has often said why.
  if (answer.status == Status::kTimedOut) return answer;
  answer.status = receive_all(length.data(), length.size(), deadline);
  if (answer.status != Status::kAnswered) return answer;
  uint64_t size = 0;
  for (size_t i = 0; i < length.size(); ++i)
    size |= static_cast<uint64_t>(static_cast<unsigned char>(length[i])) << (8 * i);
  if (size == 0 || size > kMaxFrameBytes) return {Status::kEnded, {}};
  answer.payload.resize(size);
  answer.status = receive_all(answer.payload.data(), size, deadline);
  return answer;
}

}  // namespace nemo
