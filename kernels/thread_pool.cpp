#include "kernels/thread_pool.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// How often an idle thread looks before it sleeps: a few microseconds, the pause between two ops of a decode
/// step. Longer would take cores away from the other ranks of the host.
constexpr int kSpins = 100;

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// The gate is one word, so that joining a job and its closing cannot miss each other:
// bits 0..14 workers inside the job, bit 15 open, bits 16..31 the job's number.
constexpr uint32_t kInside = 0x7fff;
constexpr uint32_t kOpen = 0x8000;
constexpr int kJobShift = 16;

}  // namespace

/// Workers join an open job if they are awake in time; the caller never waits for one that sleeps, only for
/// those inside.
struct ThreadPool::Team {
  alignas(64) std::atomic<uint32_t> gate{0};
  alignas(64) std::atomic<uint32_t> jobs_emptied{0};  ///< grows when the last worker leaves a closed job
  alignas(64) std::atomic<int64_t> next_task{0};
  alignas(64) std::atomic<bool> stopping{false};

  // The job; written by the caller while the gate is shut and nobody is inside.
  int64_t num_tasks = 0;
  void (*call)(void*, int64_t) = nullptr;
  void* body = nullptr;

  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  void work() {
    try {
      for (int64_t i; (i = next_task.fetch_add(1, std::memory_order_relaxed)) < num_tasks;) call(body, i);
    } catch (...) {
      next_task.store(num_tasks, std::memory_order_relaxed);  // the rest of a failed job is not worth doing
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }

  void leave() {
    const uint32_t before = gate.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & kOpen) == 0 && (before & kInside) == 1) {
      jobs_emptied.fetch_add(1, std::memory_order_release);
      jobs_emptied.notify_one();
    }
  }

  void worker_loop() {
    uint32_t last_job = 0;
    int spins = 0;
    while (true) {
      // The gate first: its last change is made after `stopping`, so who has seen the one sees the other, and
      // who has not finds the gate changed when about to sleep.
      uint32_t seen = gate.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) return;
      if ((seen & kOpen) != 0 && (seen >> kJobShift) != last_job) {
        if (!gate.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) continue;
        last_job = seen >> kJobShift;
        work();
        leave();
        spins = 0;
      } else if (++spins < kSpins) {
        pause_briefly();
      } else {
        gate.wait(seen, std::memory_order_acquire);
      }
    }
  }

  void open() {
    const uint32_t job = ((gate.load(std::memory_order_relaxed) >> kJobShift) + 1) & 0xffff;
    // Sequentially consistent: notify_all asks next who sleeps, and must not be answered before the store is
    // seen.
    gate.store((job == 0 ? 1 : job) << kJobShift | kOpen, std::memory_order_seq_cst);
    gate.notify_all();
  }

  void close() {
    const uint32_t emptied = jobs_emptied.load(std::memory_order_relaxed);
    const uint32_t before = gate.fetch_and(~kOpen, std::memory_order_acq_rel);
    if ((before & kInside) == 0) return;
    for (int spins = 0; jobs_emptied.load(std::memory_order_acquire) == emptied;) {
      if (++spins < kSpins) {
        pause_briefly();
      } else {
        jobs_emptied.wait(emptied, std::memory_order_acquire);
      }
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : num_threads_(num_threads) {
  NEMO_CHECK(num_threads >= 1 && num_threads < static_cast<int>(kInside), std::to_string(num_threads));
  if (num_threads == 1) return;
  team_ = std::make_unique<Team>();
  team_->workers.reserve(static_cast<size_t>(num_threads - 1));
  for (int i = 1; i < num_threads; ++i)
    team_->workers.emplace_back([team = team_.get()] { team->worker_loop(); });
}

ThreadPool::~ThreadPool() {
  if (!team_) return;
  team_->stopping.store(true, std::memory_order_release);
  team_->gate.fetch_add(1u << kJobShift, std::memory_order_release);  // so that a wait about to begin returns
  team_->gate.notify_all();
  for (std::thread& worker : team_->workers) worker.join();
}

void ThreadPool::run_erased(int64_t num_tasks, void (*call)(void*, int64_t), void* body) {
  if (!team_ || num_tasks <= 1) {
    for (int64_t i = 0; i < num_tasks; ++i) call(body, i);
    return;
  }
  Team& team = *team_;
  team.num_tasks = num_tasks;
  team.call = call;
  team.body = body;
  team.next_task.store(0, std::memory_order_relaxed);
  team.open();
  team.work();
  team.close();
  if (team.error) std::rethrow_exception(std::exchange(team.error, nullptr));
}

}  // namespace nemo::kernels
