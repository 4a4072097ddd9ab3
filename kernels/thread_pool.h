// The threads of one rank. Own code and not OpenMP: libgomp's workers spin on cores that other ranks of the
// same host need, and ThreadSanitizer cannot see through its barriers.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace nemo::kernels {

/// A fixed team of `num_threads` (the caller is one of them). Owns its threads; not copyable, not movable.
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  /// Calls task(i) for every i in [0, num_tasks), each once, on any thread, and returns when all are done.
  /// Tasks must write disjoint memory and must not call run(). The first exception is rethrown in the caller.
  template <class Task>
  void run(int64_t num_tasks, Task&& task) {
    using Body = std::remove_reference_t<Task>;
    run_erased(
        num_tasks, [](void* body, int64_t i) { (*static_cast<Body*>(body))(i); },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

 private:
  struct Team;
  void run_erased(int64_t num_tasks, void (*call)(void*, int64_t), void* body);

  int num_threads_;
  std::unique_ptr<Team> team_;
};

}  // namespace nemo::kernels
