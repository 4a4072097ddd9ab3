// All row kernels for the instruction set this file is compiled for; included last by isa_*.cpp only.
#pragma once

#include "kernels/cpu/simd/attention.h"
#include "kernels/cpu/simd/elementwise.h"
#include "kernels/cpu/simd/logits.h"
#include "kernels/cpu/simd/mamba2.h"
#include "kernels/cpu/simd/matmul.h"
#include "kernels/cpu/simd/matmul_quantized.h"
#include "kernels/cpu/simd/matmul_tiles.h"
#include "kernels/cpu/simd/tree_sum.h"
#include "kernels/cpu/simd/widen.h"

namespace nemo::kernels {
namespace {

constexpr RowKernels all_rows() {
  return {.rms_norm = rms_norm_row,
          .gated_rms_norm = gated_rms_norm_row,
          .relu2 = relu2_row,
          .add_residual = add_residual_row,
          .add = add_row,
          .round_bf16 = round_bf16_row,
          .to_bf16 = to_bf16_row,
          .to_float = to_float_row,
          .sigmoid = map_row<sigmoid>,
          .softplus = map_row<softplus>,
          .silu = map_row<silu>,
          .exp = map_row<exp>,
          .logit_stats = logit_stats_row,
          .tile_shape = tile_shape,
          .begin_tiles = begin_tiles,
          .end_tiles = end_tiles,
          .x_step_bytes = x_step_bytes,
          .pack_x = pack_x,
          .matmul_tile = matmul_tile,
          .quantized_tile = quantized_tile,
          .quantized_rows = kQuantizedRows,
          .widened_type = widened_type,
          .x_unit = x_unit,
          .widen_weights = widen_weights,
          .conv_silu = conv_silu_run,
          .selective_scan = selective_scan_run,
          .softmax_stretch = softmax_stretch,
          .merge_stretches = merge_stretches,
          .tree_sum = tree_sum_columns};
}

}  // namespace
}  // namespace nemo::kernels
