#include "tests/bench/impure.h"

#include <cmath>
#include <functional>
#include <memory>

#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "kernels/ops/matmul.h"
#include "tests/bench/operands.h"
#include "tests/bench/stopwatch.h"

namespace nemo::bench {

namespace {

using namespace kernels;

constexpr double kBudgetS = 1.2;  ///< of a product
constexpr int64_t kWeightBytes = int64_t{128} << 20;

/// Equal matrices of `slices` slices of k each, read in turn so that each comes from memory.
struct Weights {
  std::vector<PackedMatrix> matrices;
  size_t slices, next = 0;

  Weights(int64_t n, int64_t k, int64_t slices_) : slices(static_cast<size_t>(slices_)) {
    Matrix floats(64, k, 0.05f);
    for (int64_t bytes = 0; bytes < kWeightBytes; bytes += 2 * n * k)
      for (int64_t s = 0; s < slices_; ++s) {
        PackedMatrix& slice = matrices.emplace_back(WeightFormat::kBFloat16, n, k / slices_);
        const TensorView<const float> rows(floats.values.data() + s * slice.k(), 64, slice.k(), k);
        for (int64_t row = 0; row < n; row += 64) slice.pack_rows(row, rows);
      }
  }

  std::span<const PackedMatrix> take() {
    const std::span<const PackedMatrix> taken(&matrices[next], slices);
    next = (next + slices) % matrices.size();
    return taken;
  }
};

/// A product of x with the weights, or slices of it that lie below each other and are added.
struct Operands {
  Weights& weights;
  Matrix x, sums, y;
  std::vector<int64_t> offsets = {0};

  Operands(Weights& of, const Matrix& whole, int64_t n)
      : weights(of),
        x(whole.rows * static_cast<int64_t>(of.slices), of.matrices[0].k()),
        sums(x.rows, n),
        y(whole.rows, n) {
    for (int64_t row = 0; row < x.rows; ++row)
      std::copy_n(whole.values.data() + row % y.rows * whole.cols + row / y.rows * x.cols, x.cols,
                  x.view().row(row));
    for (size_t s = 1; s <= of.slices; ++s) offsets.push_back(static_cast<int64_t>(s) * y.rows);
  }

  /// Every slice as an expert of its own, by the kernel.
  void run_slices(const Context& context) {
    matmul_grouped(context, x.view(), offsets, weights.take(), sums.view());
    for_each_row(context, y.rows * y.cols / 64, 64, [&](int64_t part) {
      float* to = y.values.data() + part * 64;
      const float* from = sums.values.data() + part * 64;
      std::copy_n(from, 64, to);
      for (size_t s = 1; s < weights.slices; ++s) {
        from += y.rows * y.cols;
        for (int i = 0; i < 64; ++i) to[i] += from[i];
      }
    });
  }

  /// Block by block with another tile, in pieces that stay in the caches. The packed x lies in `sums`.
  void run_tiles(const Context& context, void (*tile_of)(const MatmulTile&)) {
    const RowKernels& kernels = row_kernels(context.isa);
    const int64_t tiles = ceil_div(y.rows, kVectorTileRows), chunks = ceil_div(tiles, 22);
    sums.values.resize(static_cast<size_t>(x.rows * x.cols));
    const auto begin = [&](int64_t tile) { return y.rows * tile / tiles; };
    context.threads.run(tiles, [&](int64_t t) {
      kernels.pack_x(DType::kBFloat16, 1.0f, x.view().row(begin(t)), x.cols, begin(t + 1) - begin(t), x.cols,
                     sums.values.data() + begin(t) * x.cols);
    });
    const std::byte* weight = weights.take()[0].data();
    context.threads.run(y.cols / kBlockColumns * chunks, [&](int64_t task) {
      const int64_t first = tiles * (task % chunks) / chunks, last = tiles * (task % chunks + 1) / chunks;
      run_block(weight, task / chunks, first, last, begin, tile_of);
    });
  }

 private:
  template <class Begin>
  void run_block(const std::byte* weight, int64_t block, int64_t first, int64_t last, Begin begin,
                 void (*tile_of)(const MatmulTile&)) {
    const int64_t steps = x.cols / 2, fetching = std::min<int64_t>(3, last - first);
    const int64_t piece = last - first == 1 ? steps : last - first <= 3 ? 64 : 512;
    for (int64_t row = begin(first); row < begin(last); ++row)
      std::fill_n(y.view().row(row) + block * kBlockColumns, kBlockColumns, 0.0f);
    for (int64_t step = 0; step < steps; step += piece) {
      const int64_t count = std::min(piece, steps - step);
      const std::byte* at = weight + (block * steps + step) * kBlockColumns * 4;
      for (int64_t t = first; t < last; ++t) {
        const int64_t rows = begin(t + 1) - begin(t), turn = t - (last - fetching);
        const std::byte* ahead = at + (count * kBlockColumns * 4) * (fetching + turn) / fetching;
        tile_of({.x = sums.values.data() + begin(t) * x.cols + step * 2 * rows,
                 .weight = at,
                 .steps = count,
                 .rows = rows,
                 .y = y.view().row(begin(t)) + block * kBlockColumns,
                 .y_stride = y.cols,
                 .ahead = turn >= 0 && rows > 1 ? ahead : nullptr,
                 .ahead_share = fetching});
      }
    }
  }
};

struct Variant {
  std::string name;
  std::function<void()> run;
  std::vector<double> seconds = {};

  double median() {
    std::ranges::sort(seconds);
    return seconds[seconds.size() / 2];
  }
};

/// All variants in turn, ours the first. Not oneDNN: its OpenMP threads go on spinning beside what comes
/// next.
PurityTax measure(const std::string& product, std::vector<Variant>& variants) {
  double spent = 0;
  for (size_t round = 0; round < 7 || spent < kBudgetS; ++round)
    for (size_t i = 0; i < variants.size(); ++i) {
      Variant& variant = variants[(round + i) % variants.size()];
      variant.seconds.push_back(seconds_of(variant.run));
      spent += variant.seconds.back();
    }
  auto best = std::ranges::min_element(variants.begin() + 1, variants.end(), {}, &Variant::median);
  return {product, variants[0].median(), best->name, best->median()};
}

/// An impure product is the same but for its rounding.
void check_close(const Matrix& ours, const Matrix& other, const std::string& name) {
  for (size_t i = 0; i < ours.values.size(); ++i)
    NEMO_CHECK(std::abs(ours.values[i] - other.values[i]) < 1e-3f, "another product: " + name);
}

PurityTax tax_of(const Context& context, const std::string& product, std::vector<Weights>& weights,
                 int64_t rows) {
  const int64_t n = weights[0].matrices[0].n();
  const Matrix x(rows, weights[0].matrices[0].k());
  std::vector<std::unique_ptr<Operands>> all;
  std::vector<Variant> variants;
  const auto add = [&](const std::string& name, Weights& of, auto run) {
    Operands& operands = *all.emplace_back(std::make_unique<Operands>(of, x, n));
    variants.push_back({name, [&operands, run] { run(operands); }});
    variants.back().run();
    check_close(all[0]->y, operands.y, name);
  };
  for (Weights& of : weights)
    add(of.slices == 1 ? "ours" : "k in " + std::to_string(of.slices) + " slices", of, [&](Operands& o) {
      o.weights.slices == 1 ? matmul(context, o.x.view(), o.weights.take()[0], o.y.view())
                            : o.run_slices(context);
    });
  if (context.isa == Isa::kAvx2) {
    add("two sums", weights[0], [&](Operands& o) { o.run_tiles(context, two_sums_tile); });
    add("k in four streams", weights[0], [&](Operands& o) { o.run_tiles(context, four_streams_tile); });
  }
  return measure(product, variants);
}

}  // namespace

std::vector<PurityTax> measure_purity_tax(const Context& context) {
  std::vector<PurityTax> taxes;
  const auto measure_shape = [&](int64_t n, int64_t k, std::initializer_list<int64_t> all_rows) {
    std::vector<Weights> weights;
    for (const int64_t slices : {1, 2, 4}) weights.emplace_back(n, k, slices);
    for (const int64_t rows : all_rows) {
      const std::string product =
          std::to_string(n) + "x" + std::to_string(k) + ", " + std::to_string(rows) + " rows";
      taxes.push_back(tax_of(context, product, weights, rows));
    }
  };
  measure_shape(4096, 4096, {1, 2, 4, 8, 16, 32, 128, 512});
  measure_shape(2688, 1024, {1, 4, 8, 128});
  measure_shape(1024, 2688, {1, 4, 8, 128});
  return taxes;
}

}  // namespace nemo::bench
