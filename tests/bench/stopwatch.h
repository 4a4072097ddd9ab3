// Timing of a piece of work, several times.
#pragma once

#include <algorithm>
#include <array>
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

/// The medians over about `budget_s` seconds, at least five runs after one to warm up, of pieces of work that
/// take turns: what slows the machine for a while slows all.
template <class... Work>
std::array<double, sizeof...(Work)> medians_in_turn(double budget_s, Work&&... works) {
  (works(), ...);
  std::array<std::vector<double>, sizeof...(Work)> runs;
  double spent = 0;
  while (runs[0].size() < 5 || spent < budget_s) {
    auto* of_work = runs.data();
    (of_work++->push_back(seconds_of(works)), ...);
    for (const auto& of : runs) spent += of.back();
  }
  std::array<double, sizeof...(Work)> medians;
  std::ranges::transform(runs, medians.begin(), [](std::vector<double>& of) {
    std::ranges::nth_element(of, of.begin() + static_cast<long>(of.size() / 2));
    return of[of.size() / 2];
  });
  return medians;
}

/// The median of one: for kernels.
template <class Work>
double median_seconds(double budget_s, Work&& work) {
  return medians_in_turn(budget_s, work)[0];
}

}  // namespace nemo::bench
