#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/error.h"

namespace nemo::kernels {

void embed(const Context& context, std::span<const int32_t> token_ids, const EmbeddingTable& table,
           TensorView<float> out) {
  NEMO_CHECK(out.rows == static_cast<int64_t>(token_ids.size()) && out.cols == table.hidden_size,
             "shape of out");
  for (int32_t id : token_ids) NEMO_CHECK(id >= 0 && id < table.vocab_size, "token id " + std::to_string(id));
  context.threads.run(out.rows, [&](int64_t i) {
    const int64_t at = token_ids[static_cast<size_t>(i)] * table.hidden_size;
    for (int64_t j = 0; j < out.cols; ++j)
      out.row(i)[j] = table.dtype == DType::kFloat32
                          ? table.rows_f32[static_cast<size_t>(at + j)]
                          : table.rows_bf16[static_cast<size_t>(at + j)].to_float();
  });
}

void rms_norm(const Context& context, TensorView<const float> x, std::span<const float> weight, float epsilon,
              TensorView<float> y) {
  NEMO_CHECK(x.rows == y.rows && x.cols == y.cols && static_cast<int64_t>(weight.size()) == x.cols, "shapes");
  context.threads.run(x.rows, [&](int64_t i) {
    float sum = 0.0f;
    for (int64_t j = 0; j < x.cols; ++j) sum += x.row(i)[j] * x.row(i)[j];
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(x.cols) + epsilon);
    for (int64_t j = 0; j < x.cols; ++j)
      y.row(i)[j] = round_to(context.dtype, weight[static_cast<size_t>(j)] * (x.row(i)[j] * scale));
  });
}

void gated_group_rms_norm(const Context& context, TensorView<const float> x, TensorView<const float> gate,
                          std::span<const float> weight, int64_t num_groups, float epsilon,
                          TensorView<float> out) {
  NEMO_CHECK(x.rows == out.rows && x.cols == out.cols && gate.rows == x.rows && gate.cols == x.cols,
             "shapes");
  NEMO_CHECK(static_cast<int64_t>(weight.size()) == x.cols && num_groups > 0 && x.cols % num_groups == 0,
             "groups");
  const int64_t width = x.cols / num_groups;
  context.threads.run(x.rows, [&](int64_t i) {
    for (int64_t g = 0; g < num_groups; ++g) {
      float sum = 0.0f;
      for (int64_t j = g * width; j < (g + 1) * width; ++j) {
        const float z = gate.row(i)[j];
        const float u = x.row(i)[j] * (z / (1.0f + std::exp(-z)));
        out.row(i)[j] = u;
        sum += u * u;
      }
      const float scale = 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
      for (int64_t j = g * width; j < (g + 1) * width; ++j)
        out.row(i)[j] = weight[static_cast<size_t>(j)] * (out.row(i)[j] * scale);
    }
  });
}

void relu2(const Context& context, TensorView<float> x) {
  context.threads.run(x.rows, [&](int64_t i) {
    for (int64_t j = 0; j < x.cols; ++j) {
      const float positive = x.row(i)[j] < 0.0f ? 0.0f : x.row(i)[j];
      x.row(i)[j] = positive * positive;
    }
  });
}

void add_residual(const Context& context, TensorView<const float> delta, TensorView<float> stream) {
  NEMO_CHECK(delta.rows == stream.rows && delta.cols == stream.cols, "shapes");
  context.threads.run(delta.rows, [&](int64_t i) {
    for (int64_t j = 0; j < delta.cols; ++j)
      stream.row(i)[j] = round_to(context.dtype, stream.row(i)[j] + delta.row(i)[j]);
  });
}

void add(const Context& context, TensorView<const float> x, TensorView<float> y) {
  NEMO_CHECK(x.rows == y.rows && x.cols == y.cols, "shapes");
  context.threads.run(x.rows, [&](int64_t i) {
    for (int64_t j = 0; j < x.cols; ++j) y.row(i)[j] += x.row(i)[j];
  });
}

void round_rows(const Context& context, TensorView<float> x) {
  context.threads.run(x.rows, [&](int64_t i) {
    for (int64_t j = 0; j < x.cols; ++j) x.row(i)[j] = round_to(context.dtype, x.row(i)[j]);
  });
}

void to_bf16(const Context& context, TensorView<const float> x, TensorView<bf16> y) {
  NEMO_CHECK(x.rows == y.rows && x.cols == y.cols, "shapes");
  context.threads.run(x.rows, [&](int64_t i) {
    for (int64_t j = 0; j < x.cols; ++j) y.row(i)[j] = bf16::from_float(x.row(i)[j]);
  });
}

void to_float(const Context& context, TensorView<const bf16> x, TensorView<float> y) {
  NEMO_CHECK(x.rows == y.rows && x.cols == y.cols, "shapes");
  context.threads.run(x.rows, [&](int64_t i) {
    for (int64_t j = 0; j < x.cols; ++j) y.row(i)[j] = x.row(i)[j].to_float();
  });
}

}  // namespace nemo::kernels
