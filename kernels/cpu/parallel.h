// How ops divide rows among threads.
#pragma once

#include <algorithm>

#include "kernels/context.h"

namespace nemo::kernels {

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Elements a task should have at least: a few microseconds of work, more than it costs to wake a thread.
inline constexpr int64_t kTaskElements = 1 << 15;

/// Calls body(row) for every row, several rows a task if rows are short.
template <class Body>
void for_each_row(const Context& context, int64_t rows, int64_t elements_per_row, Body&& body) {
  const int64_t rows_per_task = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, elements_per_row));
  context.threads.run(ceil_div(rows, rows_per_task), [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * rows_per_task);
    for (int64_t row = task * rows_per_task; row < end; ++row) body(row);
  });
}

}  // namespace nemo::kernels
