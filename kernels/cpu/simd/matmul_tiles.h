// Which tiles a product is made of: of vectors (matmul.h), or for bfloat16 of AMX's tile registers, which
// take packed blocks as they are.
//
// Part of the numerics: an AMX tile sums its 32 k by itself, the even and the odd ones in rising order, adds
// the two and that to what was there (Intel's instruction set reference, TDPBF16PS). Subnormal numbers are
// taken for zero, as by vdpbf16ps. Every row goes through the same instructions, however many there are.
#pragma once

#include "kernels/cpu/simd/matmul.h"

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
  return {.most_rows = kUnit, .row_unit = kUnit, .step_unit = kUnit, .streams = 1};
}

void begin_tiles() {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
}
void end_tiles() {
  _tile_release();  // threads that wait need not have their tiles saved
}

/// Adds 16 steps to the four sums of 16 columns; x: one tile of it.
NEMO_INLINE void add_steps(const void* x, const char* weight) {
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

/// The last steps of a block, if they do not fill a tile: what lies behind them is not ours, and may be NaN.
void add_last_steps(const void* x, const char* weight, int64_t steps) {
  alignas(64) char padded[kUnit * kStepBytes] = {};
  __builtin_memcpy(padded, weight, static_cast<size_t>(steps * kStepBytes));
  asm volatile("" : : "r"(padded) : "memory");  // GCC 12 does not know that tiles are loaded from memory
  add_steps(x, padded);
}

void bf16_tile(const MatmulTile& tile) {
  const int64_t y_stride = tile.y_stride * 4;
  if (tile.resume) {
    _tile_loadd(0, tile.y, y_stride);
    _tile_loadd(1, tile.y + 16, y_stride);
    _tile_loadd(2, tile.y + 32, y_stride);
    _tile_loadd(3, tile.y + 48, y_stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const auto* x = static_cast<const char*>(tile.x);
  const auto* weight = static_cast<const char*>(tile.weight);
  const auto* ahead = static_cast<const char*>(tile.ahead != nullptr ? tile.ahead : tile.weight);
  const int64_t pace = tile.ahead != nullptr ? kUnit * kStepBytes / tile.ahead_share : 0;
  int64_t step = 0;
  for (; step + kUnit <= tile.steps; step += kUnit) {
    for (int64_t i = 0; i < pace; i += 64) __builtin_prefetch(ahead + i, 0, 2);
    add_steps(x, weight);
    x += kTileBytes;
    weight += kUnit * kStepBytes;
    ahead += pace;
  }
  if (step < tile.steps) add_last_steps(x, weight, tile.steps - step);
  _tile_stored(0, tile.y, y_stride);
  _tile_stored(1, tile.y + 16, y_stride);
  _tile_stored(2, tile.y + 32, y_stride);
  _tile_stored(3, tile.y + 48, y_stride);
}

void matmul_tile(DType dtype, const MatmulTile& tile) {
  if (dtype == DType::kFloat32) {
    vector_tile(dtype, tile);
  } else {
    bf16_tile(tile);
  }
}

/// bfloat16: [steps / 16][16 rows][16 steps], with zeros beyond the rows and beyond k.
void pack_x(DType dtype, float unit, const float* x, int64_t x_stride, int64_t rows, int64_t k,
            void* packed) {
  if (dtype == DType::kFloat32) return pack_x_for_vectors(dtype, unit, x, x_stride, rows, k, packed);
  auto* out = static_cast<char*>(packed);
  constexpr int64_t kTileK = 2 * kUnit;
  for (int64_t begin = 0; begin < k; begin += kTileK, out += kTileBytes) {
    for (int64_t r = 0; r < kUnit; ++r) {
      auto* line = reinterpret_cast<uint16_t*>(out + 64 * r);
      for (int64_t i = 0; i < kTileK; i += kLanes) {
        const int64_t left = r < rows ? k - begin - i : 0;
        const int64_t n = left < 0 ? 0 : left < kLanes ? left : kLanes;
        store_bf16(line + i, round_to_bf16(load_some(x + r * x_stride + begin + i, n)));
      }
    }
  }
}

#else

TileShape tile_shape(DType) {
  return {.most_rows = kVectorTileRows};
}
void begin_tiles() {}
void end_tiles() {}

void matmul_tile(DType dtype, const MatmulTile& tile) {
  vector_tile(dtype, tile);
}

void pack_x(DType dtype, float unit, const float* x, int64_t x_stride, int64_t rows, int64_t k,
            void* packed) {
  pack_x_for_vectors(dtype, unit, x, x_stride, rows, k, packed);
}

#endif

}  // namespace
}  // namespace nemo::kernels
