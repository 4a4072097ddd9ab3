// MpiSession: MPI from init to finalize. Made once, in main, before anything else of dist/.
#pragma once

#include <string>

namespace nemo::dist {

class MpiSession {
 public:
  /// Initializes MPI for calls from one thread (MPI_THREAD_FUNNELED). Throws Error if MPI refuses.
  MpiSession(int& argc, char**& argv);
  /// Finalizes MPI, unless an exception is being unwound: then a collective could hang, and main calls abort
  /// instead.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int world_rank() const { return world_rank_; }
  int world_size() const { return world_size_; }

  /// Name of this host as MPI knows it.
  static std::string host_name();
  /// "Open MPI v4.1.4, ..." for the manifest.
  static std::string library_version();

  /// Ends all ranks at once with this exit code. Never returns.
  [[noreturn]] static void abort(int exit_code);

 private:
  int world_rank_ = 0;
  int world_size_ = 1;
  int uncaught_ = 0;
};

}  // namespace nemo::dist
