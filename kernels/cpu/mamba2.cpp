#include "kernels/ops/mamba2.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"

namespace nemo::kernels {

void causal_conv_silu(const Context& context, std::span<const Segment> segments, TensorView<const float> u,
                      const Mamba2Shape& shape, const Mamba2Weights& weights, const MambaState& state,
                      TensorView<float> v) {
  const int64_t dim = shape.conv_dim(), taps = shape.conv_kernel;
  NEMO_CHECK(u.cols == dim && v.cols == dim && u.rows == v.rows, "shapes of u and v");
  context.threads.run(static_cast<int64_t>(segments.size()), [&](int64_t s) {
    const Segment& segment = segments[static_cast<size_t>(s)];
    float* past = state.conv + segment.slot * (taps - 1) * dim;
    if (segment.row_count > 0 && segment.position == 0) std::fill_n(past, (taps - 1) * dim, 0.0f);
    for (int64_t t = 0; t < segment.row_count; ++t) {
      const float* row = u.row(segment.row_begin + t);
      for (int64_t c = 0; c < dim; ++c) {
        const float now = round_to(context.dtype, row[c]);
        float sum = weights.conv_bias.empty() ? 0.0f : weights.conv_bias[static_cast<size_t>(c)];
        const float* w = weights.conv_weight.data() + c * taps;
        for (int64_t j = 0; j < taps - 1; ++j) sum += w[j] * past[j * dim + c];
        sum += w[taps - 1] * now;
        for (int64_t j = 0; j + 2 < taps; ++j) past[j * dim + c] = past[(j + 1) * dim + c];
        if (taps > 1) past[(taps - 2) * dim + c] = now;
        v.row(segment.row_begin + t)[c] = sum / (1.0f + std::exp(-sum));
      }
    }
  });
}

void selective_scan(const Context& context, std::span<const Segment> segments, TensorView<const float> xbc,
                    TensorView<const float> dt_raw, const Mamba2Shape& shape, const Mamba2Weights& weights,
                    const MambaState& state, TensorView<float> y) {
  const int64_t heads = shape.num_heads, head_dim = shape.head_dim, size = shape.state_size;
  NEMO_CHECK(xbc.cols == shape.conv_dim() && dt_raw.cols == heads && y.cols == shape.inner(), "shapes");
  context.threads.run(static_cast<int64_t>(segments.size()) * heads, [&](int64_t task) {
    const Segment& segment = segments[static_cast<size_t>(task / heads)];
    const int64_t head = task % heads;
    const auto h = static_cast<size_t>(head);
    float* S = state.ssm + (segment.slot * heads + head) * head_dim * size;
    if (segment.row_count > 0 && segment.position == 0) std::fill_n(S, head_dim * size, 0.0f);
    const float a = -std::exp(weights.a_log[h]);
    const int64_t group = head / (heads / shape.num_groups);
    for (int64_t i = segment.row_begin; i < segment.row_begin + segment.row_count; ++i) {
      const float raw = dt_raw.row(i)[head] + weights.dt_bias[h];
      const float softplus = raw > 20.0f ? raw : std::log1p(std::exp(raw));
      const float dt = std::clamp(softplus, shape.dt_min, shape.dt_max);
      const float decay = std::exp(dt * a);
      const float* x = xbc.row(i) + head * head_dim;
      const float* B = xbc.row(i) + shape.inner() + group * size;
      const float* C = B + shape.num_groups * size;
      for (int64_t p = 0; p < head_dim; ++p) {
        float sum = 0.0f;
        for (int64_t n = 0; n < size; ++n) {
          S[p * size + n] = decay * S[p * size + n] + (dt * x[p]) * B[n];
          sum += S[p * size + n] * C[n];
        }
        y.row(i)[head * head_dim + p] = sum + weights.d[h] * x[p];
      }
    }
  });
}

}  // namespace nemo::kernels
