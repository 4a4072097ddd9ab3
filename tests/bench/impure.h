// What row-purity costs: the matrix product against products that may sum over k in another order for every
// number of rows. For comparison only: nothing outside of the benchmark reaches them.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/simd/table.h"

namespace nemo::bench {

struct PurityTax {
  std::string product;  ///< "4096x4096, 8 rows"
  double seconds = 0;   ///< ours
  std::string variant;  ///< the fastest of the others
  double variant_seconds = 0;

  double tax() const { return seconds / variant_seconds - 1; }
};

/// Products with bfloat16 weights, ours and the others in turn, medians. Takes about half a minute.
std::vector<PurityTax> measure_purity_tax(const kernels::Context& context);

/// Tiles of up to 6 rows, AVX2, x and weights as matmul_tile has them, columns and steps in whole multiples
/// of 4 vectors and steps; more sums per element than one, or k read in several streams at once.
void two_sums_tile(const kernels::MatmulTile& tile);
void four_streams_tile(const kernels::MatmulTile& tile);

}  // namespace nemo::bench
