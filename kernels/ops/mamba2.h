// Mamba-2: causal convolution and the selective-state recurrence, token after token, for prompts as for
// generation: so prefill equals decode to the bit and a chunk may end anywhere. nemotron_h.md 2.3. Parallel
// over channels, heads and sequences. fp32 throughout.
#pragma once

#include <limits>
#include <span>

#include "kernels/context.h"

namespace nemo::kernels {

/// Decode state of one Mamba layer, borrowed: one slot a sequence.
struct MambaState {
  /// [num_slots, conv_kernel - 1, conv_dim]: the last columns before activation, oldest first
  float* conv = nullptr;
  /// [num_slots, num_heads, state_size, head_dim]: head_dim last, so that sums over state_size need no sum of
  /// lanes
  float* ssm = nullptr;
  int64_t num_slots = 0;
};

struct Mamba2Shape {
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t num_groups = 0;  ///< head h reads B and C of group h / (num_heads / num_groups)
  int64_t state_size = 0;
  int64_t conv_kernel = 0;  ///< 1 to 8
  float dt_min = 0.0f;      ///< clamp after softplus; [0, inf) = none
  float dt_max = std::numeric_limits<float>::infinity();

  int64_t inner() const { return num_heads * head_dim; }
  int64_t conv_dim() const { return inner() + 2 * num_groups * state_size; }
};

struct Mamba2Weights {
  std::span<const float> conv_weight;  ///< [conv_dim, conv_kernel]; the last column meets the current token
  std::span<const float> conv_bias;    ///< [conv_dim] or empty
  std::span<const float> a_log;        ///< [num_heads]; A = -exp(a_log)
  std::span<const float> d;            ///< [num_heads]
  std::span<const float> dt_bias;      ///< [num_heads]
};

/// v[t, c] = silu(bias[c] + sum_j weight[c, j] * u[t - (K-1) + j, c]), each u first rounded to context.dtype
/// (the conv state holds it so). Reads and updates state.conv of every segment's slot. u, v [rows, conv_dim].
void causal_conv_silu(const Context& context, std::span<const Segment> segments, TensorView<const float> u,
                      const Mamba2Shape& shape, const Mamba2Weights& weights, const MambaState& state,
                      TensorView<float> v);

/// dt = clamp(softplus(dt_raw + dt_bias)); S = exp(dt A) S + dt x (outer) B; y = S C + D x. Reads and updates
/// state.ssm. xbc [rows, conv_dim] is the convolution's output [x | B | C]; dt_raw [rows, num_heads]; y
/// [rows, inner].
void selective_scan(const Context& context, std::span<const Segment> segments, TensorView<const float> xbc,
                    TensorView<const float> dt_raw, const Mamba2Shape& shape, const Mamba2Weights& weights,
                    const MambaState& state, TensorView<float> y);

}  // namespace nemo::kernels
