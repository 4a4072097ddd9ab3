// How rows of a matrix product are divided into the tiles of an instruction set.
#pragma once

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {

inline int64_t in_units(int64_t count, int64_t unit) {
  return ceil_div(count, unit) * unit;
}

/// Calls body(begin, end) for tiles of nearly equal height, 7 rows as 4 + 3 and not 6 + 1, in whole units:
/// only the last one may end within one.
template <class Body>
void for_each_tile(int64_t rows, const TileShape& shape, Body&& body) {
  const int64_t tiles = ceil_div(rows, shape.most_rows), units = ceil_div(rows, shape.row_unit);
  for (int64_t t = 0; t < tiles; ++t)
    body(units * t / tiles * shape.row_unit, std::min(rows, units * (t + 1) / tiles * shape.row_unit));
}

}  // namespace nemo::kernels
