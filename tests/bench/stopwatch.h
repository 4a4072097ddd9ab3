// Timing of a piece of work, several times.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace nemo::bench {

template <class Work>
double seconds_of(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The fastest of `runs` runs: for ceilings, where every disturbance only slows.
template <class Work>
double fastest(int runs, Work&& work) {
  double best = seconds_of(work);
  for (int i = 1; i < runs; ++i) best = std::min(best, seconds_of(work));
  return best;
}

/// The median over about `budget_s` seconds, at least five runs after one to warm up: for kernels.
template <class Work>
double median_seconds(double budget_s, Work&& work) {
  work();
  std::vector<double> runs;
  double spent = 0;
  while (runs.size() < 5 || spent < budget_s) {
    runs.push_back(seconds_of(work));
    spent += runs.back();
  }
  std::nth_element(runs.begin(), runs.begin() + static_cast<long>(runs.size() / 2), runs.end());
  return runs[runs.size() / 2];
}

}  // namespace nemo::bench
