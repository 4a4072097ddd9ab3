#include "kernels/ops/elementwise.h"

#include <algorithm>
#include <string>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/shape_text.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"

namespace nemo::kernels {
namespace {

template <class A, class B>
void check_same_shape(TensorView<A> a, TensorView<B> b) {
  NEMO_CHECK(a.rows == b.rows && a.cols == b.cols, shape_text(a).append(" and ").append(shape_text(b)));
}

/// bf16 is its bits and nothing else; the row kernels speak of them as such.
uint16_t* bits(bf16* p) {
  return &p->bits;
}
const uint16_t* bits(const bf16* p) {
  return &p->bits;
}

}  // namespace

void embed(const Context& context, std::span<const int32_t> token_ids, const EmbeddingTable& table,
           TensorView<float> out) {
  NEMO_CHECK(out.rows == static_cast<int64_t>(token_ids.size()) && out.cols == table.hidden_size,
             "out is not [token_ids, hidden_size]");
  const int64_t element_bytes = table.dtype == DType::kFloat32 ? 4 : 2;
  NEMO_CHECK(table.rows.num_bytes() == table.vocab_size * table.hidden_size * element_bytes,
             "table has no room for its rows");
  for (int32_t id : token_ids) NEMO_CHECK(id >= 0 && id < table.vocab_size, std::to_string(id));
  const auto to_float = row_kernels(context.isa).to_float;
  for_each_row(context, out.rows, out.cols, [&](int64_t i) {
    const int64_t at = token_ids[static_cast<size_t>(i)] * table.hidden_size;
    if (table.dtype == DType::kFloat32) {
      std::copy_n(reinterpret_cast<const float*>(table.rows.data()) + at, out.cols, out.row(i));
    } else {
      to_float(reinterpret_cast<const uint16_t*>(table.rows.data()) + at, out.cols, out.row(i));
    }
  });
}

void rms_norm(const Context& context, TensorView<const float> x, std::span<const float> weight, float epsilon,
              TensorView<float> y) {
  check_same_shape(x, y);
  NEMO_CHECK(static_cast<int64_t>(weight.size()) == x.cols, "one weight per column");
  const auto rms_norm_row = row_kernels(context.isa).rms_norm;
  for_each_row(context, x.rows, x.cols, [&](int64_t i) {
    rms_norm_row(x.row(i), weight.data(), x.cols, epsilon, context.dtype, y.row(i));
  });
}

void gated_group_rms_norm(const Context& context, TensorView<const float> x, TensorView<const float> gate,
                          std::span<const float> weight, int64_t num_groups, float epsilon,
                          TensorView<float> out) {
  check_same_shape(x, gate);
  check_same_shape(x, out);
  NEMO_CHECK(static_cast<int64_t>(weight.size()) == x.cols, "one weight per column");
  NEMO_CHECK(num_groups > 0 && x.cols % num_groups == 0, "groups do not divide the row");
  const int64_t width = x.cols / num_groups;
  const auto gated_rms_norm = row_kernels(context.isa).gated_rms_norm;
  for_each_row(context, x.rows, x.cols, [&](int64_t i) {
    for (int64_t j = 0; j < x.cols; j += width)
      gated_rms_norm(x.row(i) + j, gate.row(i) + j, weight.data() + j, width, epsilon, out.row(i) + j);
  });
}

void relu2(const Context& context, TensorView<float> x) {
  const auto relu2_row = row_kernels(context.isa).relu2;
  for_each_row(context, x.rows, x.cols, [&](int64_t i) { relu2_row(x.row(i), x.cols); });
}

void add_residual(const Context& context, TensorView<const float> delta, TensorView<float> stream) {
  check_same_shape(delta, stream);
  const auto add_residual_row = row_kernels(context.isa).add_residual;
  for_each_row(context, delta.rows, delta.cols,
               [&](int64_t i) { add_residual_row(delta.row(i), delta.cols, context.dtype, stream.row(i)); });
}

void add(const Context& context, TensorView<const float> x, TensorView<float> y) {
  check_same_shape(x, y);
  const auto add_row = row_kernels(context.isa).add;
  for_each_row(context, x.rows, x.cols, [&](int64_t i) { add_row(x.row(i), x.cols, y.row(i)); });
}

void round_rows(const Context& context, TensorView<float> x) {
  if (context.dtype == DType::kFloat32) return;
  const auto round_bf16 = row_kernels(context.isa).round_bf16;
  for_each_row(context, x.rows, x.cols, [&](int64_t i) { round_bf16(x.row(i), x.cols); });
}

void to_bf16(const Context& context, TensorView<const float> x, TensorView<bf16> y) {
  check_same_shape(x, y);
  const auto to_bf16_row = row_kernels(context.isa).to_bf16;
  for_each_row(context, x.rows, x.cols, [&](int64_t i) { to_bf16_row(x.row(i), x.cols, bits(y.row(i))); });
}

void to_float(const Context& context, TensorView<const bf16> x, TensorView<float> y) {
  check_same_shape(x, y);
  const auto to_float_row = row_kernels(context.isa).to_float;
  for_each_row(context, x.rows, x.cols, [&](int64_t i) { to_float_row(bits(x.row(i)), x.cols, y.row(i)); });
}

}  // namespace nemo::kernels
