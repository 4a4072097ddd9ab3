// Which tiles a product is made of: of vectors (matmul.h), or for bfloat16 of AMX's tile registers, which
// take packed blocks as they are.
//
// Part of the numerics: an AMX tile sums its 32 k by itself, the even and the odd ones in rising order, adds
// the two and that to what was there (Intel's instruction set reference, TDPBF16PS). Subnormal numbers are
// taken for zero, as by vdpbf16ps. Every row goes through the same instructions, however many there are.
#pragma once

#include "kernels/cpu/simd/matmul.h"
#include "kernels/cpu/simd/matmul_quantized.h"

namespace nemo::kernels {
namespace {

#if defined(__AMX_BF16__)

/// A tile register: 16 rows of 64 bytes. Of x 16 rows times 16 steps; of weights 16 steps of 16 columns; of
/// sums 16 rows times 16 columns. A step is two k.
constexpr int64_t kUnit = 16;
constexpr int64_t kTileBytes = kUnit * 64;
constexpr int64_t kStepBytes = kBlockColumns * 4;

struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

TileShape tile_shape(DType dtype) {
  if (dtype == DType::kFloat32) return {.most_rows = kVectorTileRows};
  return {
      .most_rows = 2 * kUnit, .row_unit = kUnit, .step_unit = kUnit, .streams = 1, .short_piece = 128 << 10};
}

void begin_tiles() {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
}
void end_tiles() {
  _tile_release();  // threads that wait need not have their tiles saved
}

/// One unit of rows times 64 columns. part(i): what register i of 0 to 3 sums, rows y_stride floats apart.
struct OneUnit {
  static constexpr int64_t kRows = kUnit, kColumns = 64;
  static NEMO_INLINE float* part(float* y, int64_t, int i) { return y + 16 * i; }
  static NEMO_INLINE void add_steps(const char* x, const char* weight) {
    _tile_loadd(4, x, 64);
    _tile_loadd(5, weight, kStepBytes);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, weight + 64, kStepBytes);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(5, weight + 128, kStepBytes);
    _tile_dpbf16ps(2, 4, 5);
    _tile_loadd(6, weight + 192, kStepBytes);
    _tile_dpbf16ps(3, 4, 6);
  }
};

/// Two units times 32 columns: one load less for four products.
struct TwoUnits {
  static constexpr int64_t kRows = 2 * kUnit, kColumns = 32;
  static NEMO_INLINE float* part(float* y, int64_t y_stride, int i) {
    return y + i / 2 * kUnit * y_stride + i % 2 * 16;
  }
  static NEMO_INLINE void add_steps(const char* x, const char* weight) {
    _tile_loadd(4, x, 64);
    _tile_loadd(6, weight, kStepBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, weight + 64, kStepBytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, x + kTileBytes, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
};

/// The last steps of a block, if they do not fill a tile: what lies behind them is not ours, and may be NaN.
template <class Sums>
void add_last_steps(const char* x, const char* weight, int64_t steps) {
  alignas(64) char padded[kUnit * kStepBytes] = {};
  for (int64_t i = 0; i < steps; ++i)
    __builtin_memcpy(padded + i * kStepBytes, weight + i * kStepBytes, Sums::kColumns * 4);
  asm volatile("" : : "r"(padded) : "memory");  // GCC 12 does not know that tiles are loaded from memory
  Sums::add_steps(x, padded);
}

/// What lies ahead, in equal parts from some steps to the next.
struct Fetching {
  const char* ahead;
  int64_t pace;

  NEMO_INLINE void next() {
    for (int64_t i = 0; i < pace; i += 64) __builtin_prefetch(ahead + i, 0, 2);
    ahead += pace;
  }
};

template <class Sums>
NEMO_INLINE void begin_sums(const MatmulTile& tile, float* y) {
  if (!tile.resume) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    return;
  }
  _tile_loadd(0, Sums::part(y, tile.y_stride, 0), tile.y_stride * 4);
  _tile_loadd(1, Sums::part(y, tile.y_stride, 1), tile.y_stride * 4);
  _tile_loadd(2, Sums::part(y, tile.y_stride, 2), tile.y_stride * 4);
  _tile_loadd(3, Sums::part(y, tile.y_stride, 3), tile.y_stride * 4);
}

template <class Sums>
NEMO_INLINE void put_down_sums(const MatmulTile& tile, float* y) {
  _tile_stored(0, Sums::part(y, tile.y_stride, 0), tile.y_stride * 4);
  _tile_stored(1, Sums::part(y, tile.y_stride, 1), tile.y_stride * 4);
  _tile_stored(2, Sums::part(y, tile.y_stride, 2), tile.y_stride * 4);
  _tile_stored(3, Sums::part(y, tile.y_stride, 3), tile.y_stride * 4);
}

template <class Sums>
void bf16_columns(const MatmulTile& tile, int64_t column, Fetching& fetching) {
  float* y = tile.y + column;
  begin_sums<Sums>(tile, y);
  const auto* x = static_cast<const char*>(tile.x);
  const auto* weight = static_cast<const char*>(tile.weight) + column * 4;
  int64_t step = 0;
  for (; step + kUnit <= tile.steps; step += kUnit) {
    fetching.next();
    Sums::add_steps(x, weight);
    x += Sums::kRows * 64;
    weight += kUnit * kStepBytes;
  }
  if (step < tile.steps) add_last_steps<Sums>(x, weight, tile.steps - step);
  put_down_sums<Sums>(tile, y);
}

template <class Sums>
void bf16_tile(const MatmulTile& tile) {
  constexpr int64_t kParts = kBlockColumns / Sums::kColumns;
  Fetching fetching = {static_cast<const char*>(tile.weight), 0};
  if (tile.ahead != nullptr)
    fetching = {static_cast<const char*>(tile.ahead), kUnit * kStepBytes / (kParts * tile.ahead_share)};
  for (int64_t column = 0; column < kBlockColumns; column += Sums::kColumns)
    bf16_columns<Sums>(tile, column, fetching);
}

void matmul_tile(DType dtype, const MatmulTile& tile) {
  if (dtype == DType::kFloat32) {
    vector_tile(dtype, tile);
  } else {
    (tile.rows > kUnit ? bf16_tile<TwoUnits> : bf16_tile<OneUnit>)(tile);
  }
}

/// One unit of rows widens its weights itself, half the columns of a tile ahead. A tile register cannot be
/// loaded from stores that have not reached the cache, nor, for the machine compares 12 bits of addresses,
/// while such are under way to the same place in another page: so the halves share a page.
constexpr int64_t kQuantizedRows = kUnit;
constexpr int64_t kHalf = kBlockColumns / 2;

/// How many bytes ahead packed weights are asked for, beyond the block's end too: the next one follows it.
constexpr int64_t kWideningAhead = 16 << 10;

NEMO_INLINE void add_first_half(const char* x, const uint32_t* weight) {
  _tile_loadd(4, x, 64);
  _tile_loadd(5, weight, kHalf * 4);
  _tile_dpbf16ps(0, 4, 5);
  _tile_loadd(6, weight + 16, kHalf * 4);
  _tile_dpbf16ps(1, 4, 6);
}
NEMO_INLINE void add_second_half(const uint32_t* weight) {
  _tile_loadd(5, weight, kHalf * 4);
  _tile_dpbf16ps(2, 4, 5);
  _tile_loadd(6, weight + 16, kHalf * 4);
  _tile_dpbf16ps(3, 4, 6);
}

/// The weights of one tile after another.
template <WeightFormat kFormat>
struct Widening {
  static constexpr int64_t kPackedBytes =
      kUnit / kGroupPairs * (kFormat == WeightFormat::kFp8 ? kGroupPairs * kBlockColumns * 2 : kGroupBytes);
  alignas(4096) uint32_t pairs[2][kUnit * kHalf];
  Bytes64 largest = {};

  template <int kOf>
  NEMO_INLINE void widen(const uint8_t* packed, int64_t steps) {
    if (steps < kUnit) __builtin_memset(pairs[kOf], 0, sizeof pairs[kOf]);
    to_pairs<kFormat, kOf, kOf + 1>(packed, steps < kUnit ? steps : kUnit, packed + kWideningAhead, largest,
                                    [this](int64_t step, int half, Pairs widened) {
                                      store_numbers(pairs[half] + step * kHalf, widened.first);
                                      store_numbers(pairs[half] + step * kHalf + 16, widened.last);
                                    });
    asm volatile("" : : "r"(pairs) : "memory");  // as above
  }
};

template <WeightFormat kFormat>
void quantized_unit(const MatmulTile& tile) {
  Widening<kFormat> weights;
  const auto* packed = static_cast<const uint8_t*>(tile.weight);
  const auto* x = static_cast<const char*>(tile.x);
  begin_sums<OneUnit>(tile, tile.y);
  if (tile.steps > 0) weights.template widen<0>(packed, tile.steps);
  for (int64_t left = tile.steps; left > 0; left -= kUnit, x += kTileBytes) {
    weights.template widen<1>(packed, left);
    add_first_half(x, weights.pairs[0]);
    packed += weights.kPackedBytes;
    if (left > kUnit) weights.template widen<0>(packed, left - kUnit);
    add_second_half(weights.pairs[1]);
  }
  put_down_sums<OneUnit>(tile, tile.y);
  if (has_nan(weights.largest)) make_nans(kFormat, tile, 2 * tile.steps);
}

void quantized_tile(WeightFormat format, const MatmulTile& tile) {
  (format == WeightFormat::kFp8 ? quantized_unit<WeightFormat::kFp8>
                                : quantized_unit<WeightFormat::kNvfp4>)(tile);
}

/// bfloat16: [steps / 16][rows in whole units][16 steps], with zeros beyond the rows and beyond k.
void pack_x(DType dtype, float unit, const float* x, int64_t x_stride, int64_t rows, int64_t k,
            void* packed) {
  if (dtype == DType::kFloat32) return pack_x_for_vectors(dtype, unit, x, x_stride, rows, k, packed);
  constexpr int64_t kTileK = 2 * kUnit;
  const int64_t padded_rows = rows > kUnit ? 2 * kUnit : kUnit;
  auto* line = static_cast<uint16_t*>(packed);
  for (int64_t begin = 0; begin < k; begin += kTileK)
    for (int64_t r = 0; r < padded_rows; ++r, line += kTileK)
      for (int64_t i = 0; i < kTileK; i += kLanes) {
        const int64_t left = r < rows ? k - begin - i : 0;
        const int64_t n = left < 0 ? 0 : left < kLanes ? left : kLanes;
        store_halves(line + i, bf16_factor(load_some(x + r * x_stride + begin + i, n)));
      }
}

#else

TileShape tile_shape(DType) {
  return {.most_rows = kVectorTileRows, .streams = 1, .stream_ahead = 8 << 10};
}
void begin_tiles() {}
void end_tiles() {}

void matmul_tile(DType dtype, const MatmulTile& tile) {
  vector_tile(dtype, tile);
}

constexpr int64_t kQuantizedRows = kQuantizedVectorRows;
void quantized_tile(WeightFormat format, const MatmulTile& tile) {
  quantized_vector_tile(format, tile);
}

void pack_x(DType dtype, float unit, const float* x, int64_t x_stride, int64_t rows, int64_t k,
            void* packed) {
  pack_x_for_vectors(dtype, unit, x, x_stride, rows, k, packed);
}

#endif

}  // namespace
}  // namespace nemo::kernels
