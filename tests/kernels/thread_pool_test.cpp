#include "kernels/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace nemo::kernels {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<int> done(static_cast<size_t>(tasks),
                            0);  // plain ints: a race is for ThreadSanitizer to find
      pool.run(tasks, [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
      EXPECT_EQ(done, std::vector<int>(static_cast<size_t>(tasks), 1));
    }
  }
}

TEST(ThreadPool, ManyShortJobsInARow) {
  ThreadPool pool(4);
  std::vector<int64_t> sums(4, 0);
  constexpr int64_t kJobs = 20'000;
  for (int64_t job = 0; job < kJobs; ++job)
    pool.run(4, [&](int64_t i) { sums[static_cast<size_t>(i)] += job; });
  EXPECT_EQ(sums, std::vector<int64_t>(4, kJobs * (kJobs - 1) / 2));
}

TEST(ThreadPool, WakesWorkersThatSleep) {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int> inside = 0;
    std::atomic<bool> together = false;
    // Tasks wait for each other: only several threads can finish this.
    pool.run(3, [&](int64_t) {
      if (++inside == 3) together = true;
      while (!together) std::this_thread::yield();
    });
    EXPECT_TRUE(together);
  }
}

TEST(ThreadPool, EndsWhileItsWorkersFallAsleep) {
  volatile int64_t turns = 0;
  for (int64_t round = 0; round < 5'000; ++round) {
    ThreadPool pool(4);
    pool.run(4, [](int64_t) {});
    for (turns = 0; turns < round % 2000;)
      turns = turns + 1;  // about as long as a worker looks before it sleeps
  }
}

TEST(ThreadPool, RethrowsAndGoesOn) {
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int64_t bad : {0, 5, 99}) {
      const auto job = [&](int64_t i) {
        if (i == bad) throw std::runtime_error("task failed");
      };
      EXPECT_THROW(pool.run(100, job), std::runtime_error);
      std::atomic<int> count = 0;
      pool.run(100, [&](int64_t) { ++count; });
      EXPECT_EQ(count, 100);
    }
  }
}

TEST(ThreadPool, IdleThreadsSleep) {
  ThreadPool pool(4);
  pool.run(4, [](int64_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  timespec before{}, after{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  const double used_s = static_cast<double>(after.tv_sec - before.tv_sec) +
                        static_cast<double>(after.tv_nsec - before.tv_nsec) * 1e-9;
  EXPECT_LT(used_s, 0.02);
}

}  // namespace
}  // namespace nemo::kernels
