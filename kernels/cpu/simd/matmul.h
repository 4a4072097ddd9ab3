// One tile of a matrix product: up to 6 rows times 64 columns, summed over all of k in rising order in one
// accumulator per element, so that an element's bits do not know how many rows there are or where the sum was
// interrupted.
#pragma once

#include "kernels/cpu/simd/table.h"
#include "kernels/cpu/simd/vector.h"

namespace nemo::kernels {
namespace {

/// A step is one k: a column's weight is a float.
struct Float32Format {
  static constexpr int kParts = 1;  ///< products per step, and floats of x per step and row
  static NEMO_INLINE Floats part(Words weight, int) { return floats_of(weight); }
  static NEMO_INLINE Floats multiply_add(Floats sum, Floats weight, const float* x) {
    return kernels::multiply_add(broadcast(*x), weight, sum);
  }
};

#if defined(__AVX512BF16__)
/// A step is two k: a column's weights and a row's values are pairs of bfloat16.
struct Bfloat16Format {
  static constexpr int kParts = 1;
  static NEMO_INLINE Floats part(Words weight, int) { return floats_of(weight); }
  static NEMO_INLINE Floats multiply_add(Floats sum, Floats weight, const float* x) {
    return _mm512_dpbf16_ps(sum, (__m512bh)weight, (__m512bh)broadcast(*x));
  }
};
#else
/// A step is two k: weights are pairs of bfloat16, widened here; a row's values are two floats.
struct Bfloat16Format {
  static constexpr int kParts = 2;
  static NEMO_INLINE Floats part(Words weight, int i) {
    return floats_of(i == 0 ? weight << 16 : weight & 0xffff0000u);
  }
  static NEMO_INLINE Floats multiply_add(Floats sum, Floats weight, const float* x) {
    return kernels::multiply_add(broadcast(*x), weight, sum);
  }
};
#endif

int64_t x_step_bytes(DType dtype) {
  return 4 * (dtype == DType::kFloat32 ? Float32Format::kParts : Bfloat16Format::kParts);
}

/// Vectors of columns that `rows` rows keep in registers: 6 x 4 sums of the 32 of AVX-512; 6 x 2 of 16
/// otherwise, and more for one or two rows, which wait for memory and want to read it in as few strides as
/// can be.
constexpr int tile_vectors(int rows) {
  if (kLanes == 16) return 4;
  return rows == 1 ? 8 : rows == 2 ? 4 : 2;
}

/// How far ahead weights are asked for, in steps of 256 bytes: the hardware's prefetcher stops at page ends.
constexpr int64_t kPrefetchSteps = 12;

/// How many lanes of vector `v` from `column` on are columns of the tile.
NEMO_INLINE int64_t lanes_left(const MatmulTile& tile, int64_t column, int v) {
  const int64_t left = tile.columns - column - v * kLanes;
  return left < 0 ? 0 : left < kLanes ? left : kLanes;
}

template <class Format, int kRows>
void tile_columns(const MatmulTile& tile, int64_t column) {
  constexpr int kVectors = tile_vectors(kRows);
  const auto* weight = static_cast<const uint32_t*>(tile.weight) + column;
  const auto* x = static_cast<const float*>(tile.x);
  Floats sum[kRows][kVectors] = {};
  if (tile.resume) {
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = load_first(tile.y + r * tile.y_stride + column + v * kLanes, lanes_left(tile, column, v));
  }
  for (int64_t step = 0; step < tile.steps; ++step) {
    Words words[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      words[v] = *reinterpret_cast<const UnalignedWords*>(weight + v * kLanes);
      __builtin_prefetch(weight + v * kLanes + kPrefetchSteps * kBlockColumns);
    }
#pragma GCC unroll 2
    for (int part = 0; part < Format::kParts; ++part)
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v)
          sum[r][v] =
              Format::multiply_add(sum[r][v], Format::part(words[v], part), x + r * Format::kParts + part);
    weight += kBlockColumns;
    x += kRows * Format::kParts;
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v)
      store_first(tile.y + r * tile.y_stride + column + v * kLanes, lanes_left(tile, column, v), sum[r][v]);
}

template <class Format, int kRows>
void tile_rows(const MatmulTile& tile) {
  for (int64_t column = 0; column < tile.columns; column += tile_vectors(kRows) * kLanes)
    tile_columns<Format, kRows>(tile, column);
}

template <class Format>
void tile_of_format(const MatmulTile& tile) {
  static_assert(kTileRows == 6);
  constexpr void (*kByRows[])(const MatmulTile&) = {tile_rows<Format, 1>, tile_rows<Format, 2>,
                                                    tile_rows<Format, 3>, tile_rows<Format, 4>,
                                                    tile_rows<Format, 5>, tile_rows<Format, 6>};
  kByRows[tile.rows - 1](tile);
}

void matmul_tile(DType dtype, const MatmulTile& tile) {
  if (dtype == DType::kFloat32) {
    tile_of_format<Float32Format>(tile);
  } else {
    tile_of_format<Bfloat16Format>(tile);
  }
}

/// One row of x as steps of kUnits 4-byte units, every step `rows` apart.
template <int kUnits>
void spread_steps(const uint32_t* units, int64_t steps, int64_t rows, uint32_t* out) {
  for (int64_t s = 0; s < steps; ++s)
    for (int u = 0; u < kUnits; ++u) out[s * rows * kUnits + u] = units[s * kUnits + u];
}

void pack_x(DType dtype, const float* x, int64_t x_stride, int64_t rows, int64_t k, void* packed) {
  constexpr int64_t kChunk = 256;
  constexpr int kUnits = Bfloat16Format::kParts;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t begin = 0; begin < k; begin += kChunk) {
      const float* row = x + r * x_stride + begin;
      const int64_t n = k - begin < kChunk ? k - begin : kChunk;
      auto* out = static_cast<uint32_t*>(packed);
      if (dtype == DType::kFloat32) {
        spread_steps<1>(reinterpret_cast<const uint32_t*>(row), n, rows, out + begin * rows + r);
        continue;
      }
      alignas(64) uint32_t units[kChunk] = {};  // an odd k is padded with zero, the weights are too: 0 * 0
      for_each_vector(n, [&](int64_t i, int64_t count) {
        const Floats v = round_to_bf16(load_some(row + i, count));
        if (kUnits == 2) {
          store(reinterpret_cast<float*>(units) + i, v);
        } else {
          store_bf16(reinterpret_cast<uint16_t*>(units) + i, v);
        }
      });
      spread_steps<kUnits>(units, (n + 1) / 2, rows, out + (begin / 2 * rows + r) * kUnits);
    }
  }
}

}  // namespace
}  // namespace nemo::kernels
