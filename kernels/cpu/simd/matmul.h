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
/// A step is two k: weights are pairs of bfloat16, widened here; x is two steps of floats.
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

DType widened_type(DType dtype) {
  return Bfloat16Format::kParts == 1 ? dtype : DType::kFloat32;
}

/// Vectors of columns that `rows` rows keep in registers: 6 x 4 sums of the 32 of AVX-512; of 16 otherwise as
/// many as leave room for what is multiplied, at least 8: two units with a latency of four.
template <class Format>
constexpr int tile_vectors(int rows) {
  if (kLanes == 16) return 4;
  if (rows == 3 || rows == 4) return (Format::kParts == 1 ? 7 : 6) - rows;
  return rows == 1 ? 8 : rows == 2 ? 4 : 2;
}

/// How many steps ahead weights are asked for, beside MatmulTile::ahead. Not by one row: it reads lines in
/// their order, and the machine sees that. Nor where pairs are multiplied: Zen 5 is a tenth faster with
/// `ahead` alone, and that is asked for by one row too.
#if defined(__AVX512BF16__)
constexpr int64_t kAheadSteps = 0;
#else
constexpr int64_t kAheadSteps = 8;
#endif

/// Sums of some columns, as tiles keep them from piece to piece of k.
template <int kRows, int kVectors>
NEMO_INLINE void take_up(const MatmulTile& tile, int64_t column, Floats (&sum)[kRows][kVectors]) {
  if (!tile.resume) return;
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(tile.y + r * tile.y_stride + column + v * kLanes);
}
template <int kRows, int kVectors>
NEMO_INLINE void put_down(const MatmulTile& tile, int64_t column, const Floats (&sum)[kRows][kVectors]) {
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(tile.y + r * tile.y_stride + column + v * kLanes, sum[r][v]);
}

template <class Format, int kRows, int kVectors>
NEMO_INLINE void sum_columns(const MatmulTile& tile, int64_t column) {
  const auto* weight = static_cast<const uint32_t*>(tile.weight) + column;
  // The strides of a tile share the fetching: each a run of lines, one after another.
  constexpr int64_t kStride = kVectors * kLanes;
  constexpr bool kAsks = kRows > 1 || kAheadSteps == 0;
  const bool fetch = kAsks && tile.ahead != nullptr;
  const int64_t pace = fetch ? kStride * 4 / tile.ahead_share : 0;
  const auto* ahead =
      static_cast<const char*>(fetch ? tile.ahead : tile.weight) + column / kStride * pace * tile.steps;
  const char* asked = ahead;
  const auto* x = static_cast<const float*>(tile.x);
  Floats sum[kRows][kVectors] = {};
  take_up(tile, column, sum);
  for (int64_t step = 0; step < tile.steps; ++step) {
    for (int i = 0; kAheadSteps > 0 && kRows > 1 && i < kVectors * kLanes; i += 16)
      __builtin_prefetch(weight + i + kAheadSteps * kBlockColumns);
    ahead += pace;
    for (; kAsks && asked < ahead; asked += 64) __builtin_prefetch(asked);
    Words words[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)
      words[v] = *reinterpret_cast<const UnalignedWords*>(weight + v * kLanes);
#pragma GCC unroll 2
    for (int part = 0; part < Format::kParts; ++part)
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          sum[r][v] = Format::multiply_add(sum[r][v], Format::part(words[v], part), x + part * kRows + r);
          keep_in_register(sum[r][v]);
        }
    weight += kBlockColumns;
    x += kRows * Format::kParts;
  }
  put_down(tile, column, sum);
}

/// A function of its own for several rows: inlined into tile_rows, 128 rows took a quarter longer.
template <class Format, int kRows, int kVectors>
void tile_columns(const MatmulTile& tile, int64_t column) {
  sum_columns<Format, kRows, kVectors>(tile, column);
}

template <class Format, int kRows>
void tile_rows(const MatmulTile& tile) {
  constexpr int kVectors = tile_vectors<Format>(kRows);
  constexpr int64_t kStride = kVectors * kLanes, kRest = kBlockColumns % kStride;
  int64_t column = 0;
  for (; column + kStride <= kBlockColumns; column += kStride)
    tile_columns<Format, kRows, kVectors>(tile, column);
  if constexpr (kRest > 0) tile_columns<Format, kRows, kRest / kLanes>(tile, column);
}

/// Steps of a turn: memory is read fastest in several streams at once, in turns of a few lines.
constexpr int64_t kTurnSteps = 2;

/// One row through several blocks.
template <class Format>
void row_of_blocks(const MatmulTile& tile) {
  constexpr int64_t kVectors = tile_vectors<Format>(1);
  for (int64_t step = 0; step < tile.steps; step += kTurnSteps)
    for (int64_t block = 0; block < tile.blocks; ++block) {
      const MatmulTile turn{.x = static_cast<const float*>(tile.x) + step * Format::kParts,
                            .weight = static_cast<const char*>(tile.weight) + block * tile.block_bytes +
                                      step * kBlockColumns * 4,
                            .steps = tile.steps - step < kTurnSteps ? tile.steps - step : kTurnSteps,
                            .rows = 1,
                            .y = tile.y + block * kBlockColumns,
                            .y_stride = kBlockColumns,
                            .resume = tile.resume || step > 0};
#pragma GCC unroll 2
      for (int64_t column = 0; column < kBlockColumns; column += kVectors * kLanes)
        sum_columns<Format, 1, kVectors>(turn, column);
    }
}

template <class Format>
void tile_of_format(const MatmulTile& tile) {
  static_assert(kVectorTileRows == 6);
  if (tile.blocks > 1) return row_of_blocks<Format>(tile);
  constexpr void (*kByRows[])(const MatmulTile&) = {tile_rows<Format, 1>, tile_rows<Format, 2>,
                                                    tile_rows<Format, 3>, tile_rows<Format, 4>,
                                                    tile_rows<Format, 5>, tile_rows<Format, 6>};
  kByRows[tile.rows - 1](tile);
}

void vector_tile(DType dtype, const MatmulTile& tile) {
  if (dtype == DType::kFloat32) {
    tile_of_format<Float32Format>(tile);
  } else {
    tile_of_format<Bfloat16Format>(tile);
  }
}

/// A row of at most kXChunk values as vector_tile reads them; returns how many 4-byte units. An odd k in
/// bfloat16 is padded with zero, and the weights are too: 0 * 0.
constexpr int64_t kXChunk = 256;
int64_t units_of_row(DType dtype, float unit, const float* x, int64_t n, float* units) {
  if (dtype == DType::kFloat32) {
    for_each_vector(n, [&](int64_t i, int64_t count) { store(units + i, load_some(x + i, count)); });
    return n;
  }
  for_each_vector(n, [&](int64_t i, int64_t count) {
    const Floats v = load_some(x + i, count);  // lanes beyond the row are zero
    if (Bfloat16Format::kParts == 1) {
      store_halves(reinterpret_cast<uint16_t*>(units) + i, bf16_factor(v));
    } else {
      store(units + i, round_to_bf16(v) * unit);
    }
  });
  return (n + 1) / 2 * Bfloat16Format::kParts;
}

/// Which lane of a vector of [kLanes steps][kRows] is taken from row r (kLanes and more) and which stays.
template <int kRows>
struct Interleaving {
  alignas(64) int32_t from[kRows][kRows][kLanes];

  constexpr Interleaving() : from() {
    for (int v = 0; v < kRows; ++v)
      for (int r = 1; r < kRows; ++r)
        for (int lane = 0; lane < kLanes; ++lane) {
          const int at = v * kLanes + lane, row = at % kRows, step = at / kRows;
          from[v][r][lane] = row == r ? kLanes + step : r == 1 && row == 0 ? step : lane;
        }
  }
};

/// Rows of units, `stride` apart -> [count][kRows].
template <int kRows>
void interleave(const float* units, int64_t stride, int64_t count, float* out) {
  static constexpr Interleaving<kRows> kLanesFrom;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t left = (count - i) * kRows;
#pragma GCC unroll 6
    for (int v = 0; v < kRows; ++v) {
      Floats mixed = load(units + i);
#pragma GCC unroll 5
      for (int r = 1; r < kRows; ++r)
        mixed = __builtin_shuffle(mixed, load(units + r * stride + i),
                                  *reinterpret_cast<const Ints*>(kLanesFrom.from[v][r]));
      const int64_t n = left - v * kLanes;
      if (n > 0) store_some(out + i * kRows + v * kLanes, n < kLanes ? n : kLanes, mixed);
    }
  }
}

void pack_x_for_vectors(DType dtype, float unit, const float* x, int64_t x_stride, int64_t rows, int64_t k,
                        void* packed) {
  static_assert(kVectorTileRows == 6);
  constexpr void (*kByRows[])(const float*, int64_t, int64_t, float*) = {
      interleave<1>, interleave<2>, interleave<3>, interleave<4>, interleave<5>, interleave<6>};
  constexpr int64_t kStride = kXChunk + kLanes;
  alignas(64) float units[kVectorTileRows * kStride];
  auto* out = static_cast<float*>(packed);
  for (int64_t begin = 0; begin < k; begin += kXChunk) {
    const int64_t n = k - begin < kXChunk ? k - begin : kXChunk;
    int64_t count = 0;
    for (int64_t r = 0; r < rows; ++r)
      count = units_of_row(dtype, unit, x + r * x_stride + begin, n, units + r * kStride);
    kByRows[rows - 1](units, kStride, count, out);
    out += count * rows;
  }
}

}  // namespace
}  // namespace nemo::kernels
