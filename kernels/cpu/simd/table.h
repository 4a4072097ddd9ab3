// The row kernels of one instruction set. Ops check shapes and divide work in baseline code and call these on
// plain pointers; see vector.h for why nothing richer may cross.
#pragma once

#include "kernels/context.h"
#include "kernels/ops/logits.h"
#include "kernels/weight_format.h"

namespace nemo::kernels {

/// Rows a tile of the matrix product has at most: 6 rows x 64 columns fill the 32 registers of AVX-512.
inline constexpr int64_t kTileRows = 6;
/// Output columns of a packed block.
inline constexpr int64_t kBlockColumns = 64;
/// Channels causal_conv_silu works on at a time, and taps it can have.
inline constexpr int64_t kConvChannels = 256;
inline constexpr int64_t kConvMaxTaps = 8;
/// Columns tree_sum works on at a time.
inline constexpr int64_t kTreeColumns = 256;

/// One tile of y: up to kTileRows rows times one packed block.
struct MatmulTile {
  const void* x = nullptr;       ///< as pack_x leaves it, from the first step on
  const void* weight = nullptr;  ///< the block, from the first step on
  int64_t steps = 0;             ///< how far to sum: steps of k (float32) or of 2 k (bfloat16)
  int64_t rows = 0;
  int64_t columns = 0;  ///< <= kBlockColumns; the others are not stored
  float* y = nullptr;
  int64_t y_stride = 0;
  bool resume = false;  ///< the sum goes on from what y holds
};

/// A run of one sequence's rows through kConvChannels channels of the convolution.
struct ConvRun {
  const float* u = nullptr;
  int64_t u_stride = 0;
  float* v = nullptr;
  int64_t v_stride = 0;
  int64_t rows = 0;
  int64_t channels = 0;           ///< <= kConvChannels
  int64_t taps = 0;               ///< <= kConvMaxTaps
  const float* weight = nullptr;  ///< [taps, kConvChannels]
  const float* bias = nullptr;    ///< [kConvChannels]
  float* past = nullptr;          ///< taps - 1 rows of state
  int64_t past_stride = 0;
  bool from_zero = false;
  DType dtype = DType::kFloat32;
};

/// A run of one sequence's rows through one head of the recurrence.
struct ScanRun {
  const float* x = nullptr;  ///< [rows, head_dim], rows xbc_stride apart; likewise b, c [rows, state_size]
  const float* b = nullptr;
  const float* c = nullptr;
  int64_t xbc_stride = 0;
  const float* dt_raw = nullptr;  ///< [rows], dt_stride apart
  int64_t dt_stride = 0;
  float* y = nullptr;  ///< [rows, head_dim]
  int64_t y_stride = 0;
  int64_t rows = 0;
  int64_t head_dim = 0;
  int64_t state_size = 0;
  float a_log = 0, d = 0, dt_bias = 0, dt_min = 0, dt_max = 0;
  float* state = nullptr;  ///< [state_size, head_dim]
};

/// What the online softmax remembers of one query between pages.
struct SoftmaxState {
  float max = 0;
  float sum = 0;
};

/// One push of a tree sum's postfix program: weight * input, then `merges` times: the two topmost values are
/// added.
struct TreeStep {
  const float* input = nullptr;
  float weight = 1.0f;
  int32_t merges = 0;
};

struct RowKernels {
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, DType dtype, float* y);
  void (*gated_rms_norm)(const float* x, const float* gate, const float* weight, int64_t n, float epsilon,
                         float* out);
  void (*relu2)(float* x, int64_t n);
  void (*add_residual)(const float* delta, int64_t n, DType dtype, float* stream);
  void (*add)(const float* x, int64_t n, float* y);
  void (*round_bf16)(float* x, int64_t n);
  void (*to_bf16)(const float* x, int64_t n, uint16_t* y);
  void (*to_float)(const uint16_t* x, int64_t n, float* y);
  void (*sigmoid)(const float* x, int64_t n, float* y);
  void (*softplus)(const float* x, int64_t n, float* y);
  void (*silu)(const float* x, int64_t n, float* y);
  void (*exp)(const float* x, int64_t n, float* y);
  void (*logit_stats)(const float* x, int64_t n, LogitStats* stats);

  /// Bytes a step of one row takes in a packed tile of x.
  int64_t (*x_step_bytes)(DType dtype);
  /// x [rows, k], rows x_stride apart -> the layout matmul_tile reads: [steps, rows].
  void (*pack_x)(DType dtype, const float* x, int64_t x_stride, int64_t rows, int64_t k, void* packed);
  void (*matmul_tile)(DType dtype, const MatmulTile& tile);
  /// `steps` steps of 2 k of a packed block of quantized weights (for kNvfp4 a multiple of 8, from a group's
  /// beginning on) -> what matmul_tile reads: [steps][64][2] bfloat16 or [2 steps][64] floats, unscaled.
  void (*widen_weights)(WeightFormat format, DType dtype, const void* packed, int64_t steps, void* widened);

  void (*conv_silu)(const ConvRun& run);
  void (*selective_scan)(const ScanRun& run);

  /// scores[0, visible) *= scale, then become weights e^(score - max); returns what the sums so far are to be
  /// multiplied by.
  float (*softmax_page)(float* scores, int64_t visible, float scale, SoftmaxState& state);
  /// sums[i, :] = sums[i, :] * shrink[i] + weights[i, 0 .. visible) V; weights [rows, kBlockColumns], V
  /// [visible, head_dim].
  void (*add_values)(DType dtype, const void* values, int64_t visible, int64_t head_dim, const float* weights,
                     const float* shrink, int64_t rows, float* sums);

  /// out[0, n) of one row, n <= kTreeColumns, inputs offset by `column`.
  void (*tree_sum)(const TreeStep* steps, int64_t num_steps, int64_t column, int64_t n, float* out);
};

const RowKernels& row_kernels(Isa isa);

extern const RowKernels kRowKernelsScalar;
extern const RowKernels kRowKernelsAvx2;
extern const RowKernels kRowKernelsAvx512;
extern const RowKernels kRowKernelsAvx512Bf16;

}  // namespace nemo::kernels
