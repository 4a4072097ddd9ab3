// Norms, activations, residual and conversions of one row.
#pragma once

#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/table.h"

namespace nemo::kernels {
namespace {

/// The value left when v has been stored as dtype.
NEMO_INLINE Floats round_vector(DType dtype, Floats v) {
  return dtype == DType::kBFloat16 ? round_to_bf16(v) : v;
}

/// Four running sums hide the latency of addition; which element goes to which is fixed by its column.
float sum_of_squares(const float* x, int64_t n) {
  Floats sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) {
      const Floats v = load(x + i + j * kLanes);
      sum[j] = multiply_add(v, v, sum[j]);
    }
  }
  for_each_vector(n - i, [&](int64_t j, int64_t count) {
    const Floats v = load_some(x + i + j, count);
    sum[0] = multiply_add(v, v, sum[0]);
  });
  return sum_of_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

NEMO_INLINE float inverse_rms(const float* x, int64_t n, float epsilon) {
  return 1.0f / __builtin_sqrtf(sum_of_squares(x, n) / static_cast<float>(n) + epsilon);
}

void rms_norm_row(const float* x, const float* weight, int64_t n, float epsilon, DType dtype, float* y) {
  const float scale = inverse_rms(x, n, epsilon);
  for_each_vector(n, [&](int64_t i, int64_t count) {
    const Floats v = load_some(weight + i, count) * (load_some(x + i, count) * scale);
    store_some(y + i, count, round_vector(dtype, v));
  });
}

void gated_rms_norm_row(const float* x, const float* gate, const float* weight, int64_t n, float epsilon,
                        float* out) {
  for_each_vector(n, [&](int64_t i, int64_t count) {
    store_some(out + i, count, load_some(x + i, count) * silu(load_some(gate + i, count)));
  });
  const float scale = inverse_rms(out, n, epsilon);
  for_each_vector(n, [&](int64_t i, int64_t count) {
    store_some(out + i, count, load_some(weight + i, count) * (load_some(out + i, count) * scale));
  });
}

void relu2_row(float* x, int64_t n) {
  for_each_vector(n, [&](int64_t i, int64_t count) {
    const Floats v = larger(Floats{}, load_some(x + i, count));  // a NaN stays
    store_some(x + i, count, v * v);
  });
}

void add_residual_row(const float* delta, int64_t n, DType dtype, float* stream) {
  for_each_vector(n, [&](int64_t i, int64_t count) {
    store_some(stream + i, count,
               round_vector(dtype, load_some(stream + i, count) + load_some(delta + i, count)));
  });
}

void add_row(const float* x, int64_t n, float* y) {
  for_each_vector(n, [&](int64_t i, int64_t count) {
    store_some(y + i, count, load_some(y + i, count) + load_some(x + i, count));
  });
}

void round_bf16_row(float* x, int64_t n) {
  for_each_vector(
      n, [&](int64_t i, int64_t count) { store_some(x + i, count, round_to_bf16(load_some(x + i, count))); });
}

void to_bf16_row(const float* x, int64_t n, uint16_t* y) {
  for_each_vector(n, [&](int64_t i, int64_t count) {
    const Floats v = round_to_bf16(load_some(x + i, count));
    if (count == kLanes) {
      store_bf16(y + i, v);
    } else {
      store_first_bf16(y + i, count, v);
    }
  });
}

void to_float_row(const uint16_t* x, int64_t n, float* y) {
  for_each_vector(n, [&](int64_t i, int64_t count) {
    store_some(y + i, count, count == kLanes ? load_bf16(x + i) : load_first_bf16(x + i, count));
  });
}

template <Floats (*function)(Floats)>
void map_row(const float* x, int64_t n, float* y) {
  for_each_vector(
      n, [&](int64_t i, int64_t count) { store_some(y + i, count, function(load_some(x + i, count))); });
}

}  // namespace
}  // namespace nemo::kernels
