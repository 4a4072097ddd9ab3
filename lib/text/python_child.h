// PythonChild: a python3 process that answers frames. Owned by ChatTemplate.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>

namespace nemo {

/// A move-only owner: the destructor ends the process. The child inherits no descriptor but its socket and
/// standard error, none of our signal masks, and an environment of its own, so that it knows nothing of MPI.
class PythonChild {
 public:
  enum class Status { kAnswered, kTimedOut, kEnded };
  struct Answer {
    Status status = Status::kEnded;
    std::string payload;
  };

  /// Starts `python -I -c script`. Throws Error if there is no such program.
  PythonChild(const std::string& python, const char* script);
  PythonChild(const PythonChild&) = delete;
  PythonChild& operator=(const PythonChild&) = delete;
  ~PythonChild();

  /// Sends a frame and waits for the frame that answers it. After anything but kAnswered the object is of no
  /// more use.
  Answer exchange(std::string_view payload, std::chrono::milliseconds timeout);

 private:
  using Deadline = std::chrono::steady_clock::time_point;
  Status send_all(std::string_view bytes, Deadline deadline);
  Status receive_all(char* bytes, size_t count, Deadline deadline);
  Status wait_for(short events, Deadline deadline);

  int socket_ = -1;
  pid_t pid_ = -1;
};

}  // namespace nemo
