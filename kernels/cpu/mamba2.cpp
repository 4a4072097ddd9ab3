#include "kernels/ops/mamba2.h"

#include <algorithm>
#include <string>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

void check(std::span<const Segment> segments, int64_t rows, const Mamba2Shape& shape,
           const MambaState& state) {
  NEMO_CHECK(shape.num_groups > 0 && shape.num_heads % shape.num_groups == 0, "groups do not divide heads");
  for (const Segment& segment : segments) {
    NEMO_CHECK(
        segment.row_begin >= 0 && segment.row_count >= 0 && segment.row_begin + segment.row_count <= rows,
        "segment outside of the batch");
    NEMO_CHECK(segment.slot >= 0 && segment.slot < state.num_slots, std::to_string(segment.slot));
  }
}

/// Weight and bias of some channels in the order the row kernel reads them; zero where there is none.
struct ConvWeights {
  alignas(64) float weight[kConvMaxTaps * kConvChannels] = {};
  alignas(64) float bias[kConvChannels] = {};

  ConvWeights(const Mamba2Weights& weights, int64_t taps, int64_t channel_begin, int64_t channels) {
    for (int64_t c = 0; c < channels; ++c) {
      const float* from = weights.conv_weight.data() + (channel_begin + c) * taps;
      for (int64_t j = 0; j < taps; ++j) weight[j * kConvChannels + c] = from[j];
      if (!weights.conv_bias.empty()) bias[c] = weights.conv_bias[static_cast<size_t>(channel_begin + c)];
    }
  }
};

void check_scan(TensorView<const float> xbc, TensorView<const float> dt_raw, const Mamba2Shape& shape,
                const Mamba2Weights& weights, TensorView<float> y) {
  NEMO_CHECK(xbc.cols == shape.conv_dim(), "xbc is not [rows, conv_dim]");
  NEMO_CHECK(dt_raw.rows == xbc.rows && dt_raw.cols == shape.num_heads, "dt_raw is not [rows, num_heads]");
  NEMO_CHECK(y.rows == xbc.rows && y.cols == shape.inner(), "y is not [rows, inner]");
  for (const auto& per_head : {weights.a_log, weights.d, weights.dt_bias})
    NEMO_CHECK(static_cast<int64_t>(per_head.size()) == shape.num_heads, "one value per head");
}

/// What is the same for all heads and segments.
ScanRun run_of_all_heads(TensorView<const float> xbc, TensorView<const float> dt_raw,
                         const Mamba2Shape& shape, TensorView<float> y) {
  return {.xbc_stride = xbc.stride,
          .dt_stride = dt_raw.stride,
          .y_stride = y.stride,
          .head_dim = shape.head_dim,
          .state_size = shape.state_size,
          .dt_min = shape.dt_min,
          .dt_max = shape.dt_max};
}

/// A task gathers B and C once for the heads of a group, or for a part of them if there are few groups.
int64_t parts_of_group(const Context& context, int64_t groups, int64_t heads_per_group) {
  const int64_t wanted = ceil_div(4 * context.threads.num_threads(), std::max<int64_t>(1, groups));
  return std::clamp<int64_t>(wanted, 1, heads_per_group);
}

}  // namespace

void causal_conv_silu(const Context& context, std::span<const Segment> segments, TensorView<const float> u,
                      const Mamba2Shape& shape, const Mamba2Weights& weights, const MambaState& state,
                      TensorView<float> v) {
  const int64_t dim = shape.conv_dim(), taps = shape.conv_kernel;
  check(segments, u.rows, shape, state);
  NEMO_CHECK(u.cols == dim && v.cols == dim && u.rows == v.rows, "u and v are not [rows, conv_dim]");
  NEMO_CHECK(taps >= 1 && taps <= kConvMaxTaps, std::to_string(taps));
  NEMO_CHECK(static_cast<int64_t>(weights.conv_weight.size()) == dim * taps, "conv_weight");
  NEMO_CHECK(weights.conv_bias.empty() || static_cast<int64_t>(weights.conv_bias.size()) == dim, "conv_bias");
  // A task rearranges the weights of its channels once and then serves many sequences.
  constexpr int64_t kSegments = 16;
  const int64_t blocks = ceil_div(dim, kConvChannels);
  const auto count = static_cast<int64_t>(segments.size());
  const auto conv_silu = row_kernels(context.isa).conv_silu;
  context.threads.run(blocks * ceil_div(count, kSegments), [&](int64_t task) {
    const int64_t channel = task % blocks * kConvChannels;
    const int64_t channels = std::min(kConvChannels, dim - channel);
    const ConvWeights local(weights, taps, channel, channels);
    const int64_t begin = task / blocks * kSegments;
    for (int64_t s = begin; s < std::min(count, begin + kSegments); ++s) {
      const Segment& segment = segments[static_cast<size_t>(s)];
      if (segment.row_count == 0) continue;
      conv_silu({.u = u.row(segment.row_begin) + channel,
                 .u_stride = u.stride,
                 .v = v.row(segment.row_begin) + channel,
                 .v_stride = v.stride,
                 .rows = segment.row_count,
                 .channels = channels,
                 .taps = taps,
                 .weight = local.weight,
                 .bias = local.bias,
                 .past = state.conv + segment.slot * (taps - 1) * dim + channel,
                 .past_stride = dim,
                 .from_zero = segment.position == 0,
                 .dtype = context.dtype});
    }
  });
}

void selective_scan(const Context& context, std::span<const Segment> segments, TensorView<const float> xbc,
                    TensorView<const float> dt_raw, const Mamba2Shape& shape, const Mamba2Weights& weights,
                    const MambaState& state, TensorView<float> y) {
  check(segments, xbc.rows, shape, state);
  check_scan(xbc, dt_raw, shape, weights, y);
  const int64_t heads = shape.num_heads, heads_per_group = heads / shape.num_groups;
  const auto groups = static_cast<int64_t>(segments.size()) * shape.num_groups;
  const int64_t parts = parts_of_group(context, groups, heads_per_group);
  const ScanRun common = run_of_all_heads(xbc, dt_raw, shape, y);
  context.threads.run(groups * parts, [&](int64_t task) {
    static thread_local Scratch scratch;
    const Segment& segment = segments[static_cast<size_t>(task / parts / shape.num_groups)];
    if (segment.row_count == 0) return;
    const int64_t group = task / parts % shape.num_groups, part = task % parts;
    const int64_t begin = heads_per_group * part / parts, end = heads_per_group * (part + 1) / parts;
    const int64_t head = group * heads_per_group + begin, count = end - begin;
    const int64_t state_elements = shape.head_dim * shape.state_size;
    const float* row = xbc.row(segment.row_begin);
    ScanRun run = common;
    run.x = row + head * shape.head_dim;
    run.b = row + shape.inner() + group * shape.state_size;
    run.c = run.b + shape.num_groups * shape.state_size;
    run.dt_raw = dt_raw.row(segment.row_begin) + head;
    run.y = y.row(segment.row_begin) + head * shape.head_dim;
    run.rows = segment.row_count;
    run.heads = count;
    run.a_log = weights.a_log.data() + head;
    run.d = weights.d.data() + head;
    run.dt_bias = weights.dt_bias.data() + head;
    run.state = state.ssm + (segment.slot * heads + head) * state_elements;
    if (segment.position == 0) std::fill_n(run.state, count * state_elements, 0.0f);
    run.scratch = scratch.get<float>(ScanRun::scratch_floats(shape.head_dim, shape.state_size));
    row_kernels(context.isa).selective_scan(run);
  });
}

}  // namespace nemo::kernels
