// One tile of a product with quantized weights, of few rows, where x is in bfloat16: weights are widened in
// registers and multiplied there. In the order of matmul.h, so to the bit what the widened weights give.
// Reading them widened from a scratch would add a store and a load.
#pragma once

#include "kernels/cpu/simd/matmul.h"
#include "kernels/cpu/simd/widen.h"

namespace nemo::kernels {
namespace {

NEMO_INLINE void make_nan(const MatmulTile& tile, int64_t column) {
  for (int64_t r = 0; r < tile.rows; ++r) tile.y[r * kBlockColumns + column] = __builtin_nanf("");
}

/// Sums that met a NaN in their weights, which were widened as if it was a number.
__attribute__((noinline)) void make_nans(WeightFormat format, const MatmulTile& tile, int64_t num_k) {
  const auto* codes = static_cast<const uint8_t*>(tile.weight);
  if (format == WeightFormat::kFp8) {
    for (int64_t i = 0; i < num_k * kBlockColumns; ++i)
      if ((codes[i] & 0x7f) == 0x7f) make_nan(tile, fp8_column(i));
  } else {
    for (int64_t k = 0; k < num_k; k += kNvfp4Block, codes += kGroupBytes)
      for (int64_t i = 0; i < kBlockColumns; ++i)
        if ((codes[i] & 0x7f) == 0x7f) make_nan(tile, nvfp4_column(i));
  }
}

#if defined(__AVX512BF16__)

/// Rows whose quantized weights are widened in registers: their sums take up to 24 of 32.
constexpr int64_t kQuantizedVectorRows = kVectorTileRows;

template <WeightFormat kFormat, int kRows>
void quantized_rows(const MatmulTile& tile) {
  constexpr int kVectors = kBlockColumns / kLanes;
  const auto* x = static_cast<const float*>(tile.x);
  Floats sum[kRows][kVectors] = {};
  take_up(tile, 0, sum);
  Bytes64 largest = {};
  to_pairs<kFormat, 0, 2>(
      static_cast<const uint8_t*>(tile.weight), tile.steps, static_cast<const uint8_t*>(tile.ahead),
      largest, [&](int64_t step, int half, const Pairs& pairs) __attribute__((always_inline)) {
#pragma GCC unroll 6
        for (int r = 0; r < kRows; ++r) {
          const float* at = x + step * kRows + r;
          Floats* sums = sum[r] + 2 * half;
          sums[0] = Bfloat16Format::multiply_add(sums[0], (Floats)pairs.first, at);
          sums[1] = Bfloat16Format::multiply_add(sums[1], (Floats)pairs.last, at);
          keep_in_register(sums[0]);
          keep_in_register(sums[1]);
        }
      });
  put_down(tile, 0, sum);
  if (has_nan(largest)) make_nans(kFormat, tile, 2 * tile.steps);
}

template <WeightFormat kFormat>
void quantized_tile_of(const MatmulTile& tile) {
  static_assert(kQuantizedVectorRows == 6);
  constexpr void (*kByRows[])(const MatmulTile&) = {quantized_rows<kFormat, 1>, quantized_rows<kFormat, 2>,
                                                    quantized_rows<kFormat, 3>, quantized_rows<kFormat, 4>,
                                                    quantized_rows<kFormat, 5>, quantized_rows<kFormat, 6>};
  kByRows[tile.rows - 1](tile);
}

inline void quantized_vector_tile(WeightFormat format, const MatmulTile& tile) {
  (format == WeightFormat::kFp8 ? quantized_tile_of<WeightFormat::kFp8>
                                : quantized_tile_of<WeightFormat::kNvfp4>)(tile);
}

#else

// A row alone leaves memory little time: 8 weights of NVFP4 are 4.5 bytes, hardly more than a cycle. They
// take 4.4 vector operations here, of which 1 is the product's own; of FP8 5.3, for 8 bytes.

/// Sums of kRows rows and kParts times 16 columns, as matmul_tile keeps them between calls.
template <int kRows, int kParts>
struct Sums {
  Floats8 sum[kRows][2 * kParts] = {};

  NEMO_INLINE Sums(const MatmulTile& tile, int64_t column) {
    if (!tile.resume) return;
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < 2 * kParts; ++v) sum[r][v] = load8(tile.y + r * kBlockColumns + column + 8 * v);
  }

  NEMO_INLINE void put_down(const MatmulTile& tile, int64_t column) const {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < 2 * kParts; ++v) store8(tile.y + r * kBlockColumns + column + 8 * v, sum[r][v]);
  }

  /// x: one k of every row.
  NEMO_INLINE void add(int part, const float* x, const Weights16& weights) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      sum[r][2 * part] = multiply_add(x[r], weights.first, sum[r][2 * part]);
      keep_in_register(sum[r][2 * part]);
      sum[r][2 * part + 1] = multiply_add(x[r], weights.last, sum[r][2 * part + 1]);
      keep_in_register(sum[r][2 * part + 1]);
    }
  }
};

/// What some columns of a tile ask for while they read their own: their part of what lies ahead.
struct Ahead {
  const char* next;

  Ahead(const MatmulTile& tile, int64_t column_bytes)
      : next(static_cast<const char*>(tile.ahead) + column_bytes) {}

  NEMO_INLINE void fetch(int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i);
    next += bytes;
  }
};

/// All of the tile's k for some columns; returns the largest magnitude of a code.
struct Fp8Tile {
  static constexpr WeightFormat kFormat = WeightFormat::kFp8;
  template <int kRows, int kParts>
  static Codes columns(const MatmulTile& tile, int64_t column) {
    const auto* codes = static_cast<const uint8_t*>(tile.weight) + 2 * column;
    const auto* x = static_cast<const float*>(tile.x);
    Sums<kRows, kParts> sums(tile, column);
    Ahead ahead(tile, column * tile.steps);
    Codes largest = {};
    for (int64_t k = 0; k < tile.steps; k += 2, codes += 2 * kBlockColumns, x += 2 * kRows) {
      ahead.fetch(32 * kParts);
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) {
        const Codes pairs = load_codes(codes + 32 * part);
        note_nans(pairs, largest);
        const Weights16x2 weights = widen_e4m3(pairs);
        sums.add(part, x, weights.even);
        sums.add(part, x + kRows, weights.odd);
      }
    }
    sums.put_down(tile, column);
    return largest;
  }
};

struct Nvfp4Tile {
  static constexpr WeightFormat kFormat = WeightFormat::kNvfp4;
  template <int kRows, int kParts>
  static Codes columns(const MatmulTile& tile, int64_t column) {
    static_assert(kParts <= 2, "halves of 32 columns");
    const auto* group = static_cast<const uint8_t*>(tile.weight) + column / 32 * 32;
    const auto* x = static_cast<const float*>(tile.x);
    const int half = static_cast<int>(column / 16 % 2);
    Sums<kRows, kParts> sums(tile, column);
    Ahead ahead(tile, column * (kGroupBytes / kBlockColumns) * (tile.steps / kNvfp4Block));
    Codes largest = {};
    for (int64_t k = 0; k < tile.steps; k += kNvfp4Block, group += kGroupBytes, x += kNvfp4Block * kRows) {
      const Codes codes = load_codes(group);
      note_nans(codes, largest);
      ahead.fetch(kGroupBytes / 4 * kParts);
      BlockScales scales[kParts];
      for (int part = 0; part < kParts; ++part) scales[part] = split_scales(codes, half + part);
      for (int64_t pair = 0; pair < kGroupPairs; ++pair) {
        const Codes pairs = load_codes(group + (1 + pair) * kBlockColumns);
        const float* at = x + 2 * pair * kRows;
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part)
          sums.add(part, at, widen_e2m1(even_codes(pairs), scales[part]));
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part)
          sums.add(part, at + kRows, widen_e2m1(odd_codes(pairs), scales[part]));
      }
    }
    sums.put_down(tile, column);
    return largest;
  }
};

/// Times 16 columns that `rows` rows keep in registers, at most `most`: at least 8 sums, or one of two units
/// with a latency of four would wait.
constexpr int tile_parts(int rows, int most) {
  const int parts = rows == 1 ? 4 : rows == 2 ? 2 : 1;
  return parts < most ? parts : most;
}

/// Rows whose quantized weights are best widened in registers. With more there are too few of those: sums are
/// put aside, and weights are widened for fewer columns at a time, twice as often.
constexpr int64_t kQuantizedVectorRows = 4;

template <class Tile, int kRows>
void quantized_rows(const MatmulTile& tile) {
  constexpr int kParts = tile_parts(kRows, Tile::kFormat == WeightFormat::kFp8 ? 4 : 2);
  Codes largest = {};
  for (int64_t column = 0; column < kBlockColumns; column += 16 * kParts)
    largest = larger(largest, Tile::template columns<kRows, kParts>(tile, column));
  if (noted_nan(largest)) make_nans(Tile::kFormat, tile, tile.steps);
}

template <class Tile>
void quantized_tile_of(const MatmulTile& tile) {
  static_assert(kQuantizedVectorRows == 4);
  constexpr void (*kByRows[])(const MatmulTile&) = {quantized_rows<Tile, 1>, quantized_rows<Tile, 2>,
                                                    quantized_rows<Tile, 3>, quantized_rows<Tile, 4>};
  kByRows[tile.rows - 1](tile);
}

inline void quantized_vector_tile(WeightFormat format, const MatmulTile& tile) {
  if (format == WeightFormat::kFp8) {
    quantized_tile_of<Fp8Tile>(tile);
  } else {
    quantized_tile_of<Nvfp4Tile>(tile);
  }
}

#endif

}  // namespace
}  // namespace nemo::kernels
