// Compiled for AVX2.
#include "kernels/cpu/simd/vector.h"
#include "tests/bench/impure.h"

namespace nemo::bench {

namespace {

using namespace kernels;

/// `kStreams` ranges of k side by side, `kSums` sums per element that are added in the end.
template <int kRows, int kVectors, int kStreams, int kSums>
void tile_columns(const MatmulTile& tile, int64_t column) {
  constexpr int64_t kStride = kVectors * kLanes;
  const int64_t steps = tile.steps / kStreams;
  const auto* weight = static_cast<const uint32_t*>(tile.weight) + column;
  const auto* x = static_cast<const float*>(tile.x);
  const int64_t pace = tile.ahead != nullptr ? kStreams * kStride * 4 / tile.ahead_share : 0;
  const auto* ahead = tile.ahead != nullptr
                          ? static_cast<const char*>(tile.ahead) + column / kStride * pace * steps
                          : nullptr;
  Floats sum[kSums][kRows][kVectors] = {};
  for (int64_t step = 0; step < steps; ++step, weight += kBlockColumns, x += 2 * kRows, ahead += pace) {
    for (int64_t i = 0; i < pace; i += 64) __builtin_prefetch(ahead + i);
#pragma GCC unroll 4
    for (int stream = 0; stream < kStreams; ++stream) {
      const uint32_t* words = weight + stream * steps * kBlockColumns;
      const float* values = x + stream * steps * 2 * kRows;
      if (kRows > 1) __builtin_prefetch(words + 8 * kBlockColumns);
#pragma GCC unroll 2
      for (int part = 0; part < 2; ++part)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          const Words pair = *reinterpret_cast<const UnalignedWords*>(words + v * kLanes);
          const Floats w = floats_of(part == 0 ? pair << 16 : pair & 0xffff0000u);
#pragma GCC unroll 6
          for (int r = 0; r < kRows; ++r) {
            Floats& to = sum[part % kSums][r][v];
            to = multiply_add(broadcast(values[part * kRows + r]), w, to);
            keep_in_register(to);
          }
        }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* y = tile.y + r * tile.y_stride + column + v * kLanes;
      store(y, load(y) + (kSums == 1 ? sum[0][r][v] : sum[0][r][v] + sum[kSums - 1][r][v]));
    }
}

template <int kRows, int kVectors, int kStreams, int kSums>
void tile_of(const MatmulTile& tile) {
  for (int64_t column = 0; column < kBlockColumns; column += kVectors * kLanes)
    tile_columns<kRows, kVectors, kStreams, kSums>(tile, column);
}

}  // namespace

void two_sums_tile(const MatmulTile& tile) {
  constexpr void (*kByRows[])(const MatmulTile&) = {tile_of<1, 4, 1, 2>, tile_of<2, 2, 1, 2>,
                                                    tile_of<3, 2, 1, 2>, tile_of<4, 1, 1, 2>,
                                                    tile_of<5, 1, 1, 2>, tile_of<6, 1, 1, 2>};
  kByRows[tile.rows - 1](tile);
}

void four_streams_tile(const MatmulTile& tile) {
  constexpr void (*kByRows[])(const MatmulTile&) = {tile_of<1, 8, 4, 1>, tile_of<2, 4, 4, 1>,
                                                    tile_of<3, 4, 4, 1>, tile_of<4, 2, 4, 1>,
                                                    tile_of<5, 2, 4, 1>, tile_of<6, 2, 4, 1>};
  kByRows[tile.rows - 1](tile);
}

}  // namespace nemo::bench
