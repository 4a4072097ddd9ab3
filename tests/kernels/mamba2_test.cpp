#include "kernels/ops/mamba2.h"

#include "kernels/error.h"
#include "tests/kernels/row_purity.h"

namespace nemo::kernels {
namespace {

/// Shape, weights and state of one layer, and both ops in a row: [u | dt] -> [v | y].
class Layer {
 public:
  Layer(std::mt19937& random, Mamba2Shape shape, int64_t num_slots, bool with_bias = true)
      : shape_(shape),
        conv_weight_(random_vector(random, shape.conv_dim() * shape.conv_kernel, 0.5f)),
        conv_bias_(random_vector(random, with_bias ? shape.conv_dim() : 0, 0.5f)),
        a_log_(random_vector(random, shape.num_heads)),
        d_(random_vector(random, shape.num_heads)),
        dt_bias_(random_vector(random, shape.num_heads)),
        // A slot's earlier owner has left anything behind.
        conv_state_(static_cast<size_t>(num_slots * (shape.conv_kernel - 1) * shape.conv_dim() + 1),
                    std::nanf("")),
        ssm_state_(static_cast<size_t>(num_slots * shape.inner() * shape.state_size + 1), std::nanf("")),
        num_slots_(num_slots) {}

  const Mamba2Shape& shape() const { return shape_; }
  Mamba2Weights weights() const { return {conv_weight_, conv_bias_, a_log_, d_, dt_bias_}; }
  MambaState state() { return {conv_state_.data(), ssm_state_.data(), num_slots_}; }
  std::vector<float> state_bits() const {
    std::vector<float> all = conv_state_;
    all.insert(all.end(), ssm_state_.begin(), ssm_state_.end());
    return all;
  }

  int64_t input_cols() const { return shape_.conv_dim() + shape_.num_heads; }
  int64_t output_cols() const { return shape_.conv_dim() + shape_.inner(); }
  void run(const Context& context, std::span<const Segment> segments, const Matrix& input, Matrix& output) {
    const int64_t dim = shape_.conv_dim();
    const TensorView<float> v = output.view().slice_cols(0, dim);
    causal_conv_silu(context, segments, input.view().slice_cols(0, dim), shape_, weights(), state(), v);
    selective_scan(context, segments, v, input.view().slice_cols(dim, shape_.num_heads), shape_, weights(),
                   state(), output.view().slice_cols(dim, shape_.inner()));
  }

 private:
  Mamba2Shape shape_;
  std::vector<float> conv_weight_, conv_bias_, a_log_, d_, dt_bias_, conv_state_, ssm_state_;
  int64_t num_slots_;
};

constexpr Mamba2Shape kSmall = {
    .num_heads = 4, .head_dim = 5, .num_groups = 2, .state_size = 7, .conv_kernel = 4};
constexpr Mamba2Shape kUsual = {
    .num_heads = 6, .head_dim = 64, .num_groups = 3, .state_size = 128, .conv_kernel = 4};
constexpr Mamba2Shape kOdd = {.num_heads = 3,
                              .head_dim = 80,
                              .num_groups = 1,
                              .state_size = 33,
                              .conv_kernel = 2,
                              .dt_min = 0.1f,
                              .dt_max = 1.0f};

class Mamba2Test : public KernelTest {};

double silu(double x) {
  return x / (1 + std::exp(-x));
}

TEST_P(Mamba2Test, ConvolutionAgreesWithDoublePrecision) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16})
    for (bool with_bias : {false, true})
      for (const Mamba2Shape& shape : {kSmall, kUsual, kOdd}) {
        Layer layer(random_, shape, 1, with_bias);
        const int64_t dim = shape.conv_dim(), taps = shape.conv_kernel, rows = 9;
        const Matrix u = random_matrix(random_, rows, dim);
        Matrix v(rows, dim);
        const Segment all{.row_begin = 0, .row_count = rows};
        causal_conv_silu(context(dtype), {&all, 1}, u.view(), shape, layer.weights(), layer.state(),
                         v.view());
        expect_close(
            v,
            [&](int64_t t, int64_t c) {
              double sum = with_bias ? layer.weights().conv_bias[static_cast<size_t>(c)] : 0.0f;
              for (int64_t j = 0; j < taps; ++j)
                if (const int64_t from = t - (taps - 1) + j; from >= 0)
                  sum += double{layer.weights().conv_weight[static_cast<size_t>(c * taps + j)]} *
                         rounded(dtype, u(from, c));
              return silu(sum);
            },
            1e-6, 2e-6);
      }
}

TEST_P(Mamba2Test, ScanAgreesWithDoublePrecision) {
  for (const Mamba2Shape& shape : {kSmall, kUsual, kOdd}) {
    Layer layer(random_, shape, 1);
    const Mamba2Weights w = layer.weights();
    const int64_t rows = 70;
    const Matrix xbc = random_matrix(random_, rows, shape.conv_dim()),
                 dt_raw = random_matrix(random_, rows, shape.num_heads, 2.0f);
    Matrix y(rows, shape.inner());
    const Segment all{.row_begin = 0, .row_count = rows};
    selective_scan(context(DType::kBFloat16), {&all, 1}, xbc.view(), dt_raw.view(), shape, w, layer.state(),
                   y.view());

    Matrix reference(rows, shape.inner());
    for (int64_t h = 0; h < shape.num_heads; ++h)
      for (int64_t p = 0; p < shape.head_dim; ++p) {
        std::vector<double> state(static_cast<size_t>(shape.state_size), 0.0);
        const int64_t column = h * shape.head_dim + p;
        const int64_t b = shape.inner() + h / (shape.num_heads / shape.num_groups) * shape.state_size;
        for (int64_t t = 0; t < rows; ++t) {
          const auto head = static_cast<size_t>(h);
          const double raw = double{dt_raw(t, h)} + w.dt_bias[head];
          const double dt =
              std::min<double>(std::max<double>(std::log1p(std::exp(raw)), shape.dt_min), shape.dt_max);
          double sum = double{w.d[head]} * xbc(t, column);
          for (int64_t n = 0; n < shape.state_size; ++n) {
            double& s = state[static_cast<size_t>(n)];
            s = std::exp(-dt * std::exp(double{w.a_log[head]})) * s + dt * xbc(t, column) * xbc(t, b + n);
            sum += s * xbc(t, b + shape.num_groups * shape.state_size + n);
          }
          reference(t, column) = static_cast<float>(sum);
        }
      }
    // Terms of both signs cancel: the error is that of the terms (of magnitude up to a few hundred), not of
    // the sum.
    expect_close(
        y, [&](int64_t i, int64_t j) { return reference(i, j); }, 1e-4, 1e-5);
  }
}

TEST_P(Mamba2Test, AnySplitIntoChunksGivesTheSameBits) {
  for (const Mamba2Shape& shape : {kSmall, kUsual, kOdd})
    for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      Layer layer(random_, shape, 2);
      const int64_t rows = 75;
      const Matrix input = random_matrix(random_, rows, layer.input_cols());
      Matrix whole(rows, layer.output_cols());
      const Segment all{.row_begin = 0, .row_count = rows, .slot = 1, .position = 0};
      layer.run(context(dtype), {&all, 1}, input, whole);
      const std::vector<float> state = layer.state_bits();
      for (int64_t longest : {1, 2, 5, 64}) {
        Matrix pieces(rows, layer.output_cols());
        std::uniform_int_distribution<int64_t> length(0, longest);
        for (int64_t begin = 0; begin < rows;) {
          const int64_t count = std::min(rows - begin, longest == 1 ? 1 : length(random_));
          const Segment chunk{.row_begin = begin, .row_count = count, .slot = 1, .position = begin};
          layer.run(context(dtype), {&chunk, 1}, input, pieces);
          begin += count;
        }
        EXPECT_TRUE(pieces.intact());
        for (int64_t i = 0; i < rows; ++i)
          ASSERT_TRUE(same_bits(pieces.row(i), whole.row(i), layer.output_cols())) << "token " << i;
        const std::vector<float> now = layer.state_bits();
        ASSERT_TRUE(same_bits(now.data(), state.data(), static_cast<int64_t>(state.size())));
      }
    }
}

TEST_P(Mamba2Test, IsRowPure) {
  // Every row is a sequence of its own at its start, in a slot of its own.
  for (const Mamba2Shape& shape : {kSmall, kUsual}) {
    Layer layer(random_, shape, 40);
    const RowOp op = [&](std::vector<Matrix>& in, Matrix& out) {
      std::vector<Segment> segments;
      for (int64_t i = 0; i < out.rows(); ++i)
        segments.push_back(
            {.row_begin = i, .row_count = 1, .slot = static_cast<int32_t>(39 - i), .position = 0});
      layer.run(context(DType::kBFloat16), segments, in[0], out);
    };
    expect_row_pure(op, {random_matrix(random_, 20, layer.input_cols())}, layer.output_cols());
  }
}

TEST_P(Mamba2Test, SequencesDoNotSeeEachOther) {
  // Three sequences of unequal chunks in one batch, one of them empty, one full of NaN: as if each were
  // alone.
  Layer together(random_, kUsual, 3);
  std::mt19937 same(5);
  const Matrix input = random_matrix(same, 30, together.input_cols());
  Matrix poisoned = input;
  for (int64_t i = 12; i < 17; ++i) std::fill_n(poisoned.row(i), poisoned.cols(), std::nanf(""));
  const Segment segments[] = {{.row_begin = 0, .row_count = 12, .slot = 2},
                              {.row_begin = 12, .row_count = 5, .slot = 0},
                              {.row_begin = 17, .row_count = 0, .slot = 1},
                              {.row_begin = 17, .row_count = 13, .slot = 1}};
  Matrix batch(30, together.output_cols()), alone(30, together.output_cols());
  together.run(context(DType::kBFloat16), segments, poisoned, batch);
  for (size_t s : {0u, 3u}) {
    together.run(context(DType::kBFloat16), {&segments[s], 1}, input, alone);
    for (int64_t i = segments[s].row_begin; i < segments[s].row_begin + segments[s].row_count; ++i)
      ASSERT_TRUE(same_bits(batch.row(i), alone.row(i), together.output_cols())) << "row " << i;
  }
  EXPECT_TRUE(batch.intact());
}

TEST_P(Mamba2Test, RefusesSlotsThatDoNotExist) {
  Layer layer(random_, kSmall, 1);
  const Matrix input = random_matrix(random_, 1, layer.input_cols());
  Matrix output(1, layer.output_cols());
  const Segment wrong{.row_begin = 0, .row_count = 1, .slot = 1};
  EXPECT_THROW(layer.run(context(DType::kFloat32), {&wrong, 1}, input, output), Error);
}

NEMO_INSTANTIATE(Mamba2Test);

}  // namespace
}  // namespace nemo::kernels
