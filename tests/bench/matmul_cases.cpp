// Matrix products, and the experts' grouped ones.
#include "kernels/ops/matmul.h"
#include "tests/bench/cases.h"
#include "tests/bench/operands.h"

namespace nemo::bench {

namespace {

using kernels::Context;
using kernels::DType;
using kernels::PackedMatrix;

PackedMatrix random_weight(int64_t n, int64_t k) {
  PackedMatrix weight(DType::kBFloat16, n, k);
  Matrix rows(std::min<int64_t>(n, 64), k, 0.05f);
  for (int64_t row = 0; row < n; row += rows.rows)
    weight.pack_rows(row, rows.view().slice_rows(0, std::min(rows.rows, n - row)));
  return weight;
}

/// Several matrices in turn, so that each is read from memory and not from the caches.
Case matmul_case(int64_t rows, int64_t n, int64_t k) {
  struct Operands {
    std::vector<PackedMatrix> weights;
    Matrix x, y;
    size_t next = 0;
  };
  auto operands = std::make_shared<Operands>(Operands{{}, Matrix(rows, k), Matrix(rows, n)});
  for (int64_t bytes = 0; bytes < (int64_t{256} << 20); bytes += operands->weights.back().bytes())
    operands->weights.push_back(random_weight(n, k));
  return {.name = "matmul bf16 " + std::to_string(n) + "x" + std::to_string(k) + ", " + std::to_string(rows) +
                  " rows",
          .bytes = static_cast<double>(2 * n * k),
          .bf16_flops = 2.0 * static_cast<double>(rows * n * k),
          .run = [operands](const Context& context) {
            kernels::matmul(context, operands->x.view(), operands->weights[operands->next],
                            operands->y.view());
            operands->next = (operands->next + 1) % operands->weights.size();
          }};
}

Case grouped_case(int64_t experts, int64_t rows_per_expert) {
  constexpr int64_t kWidth = 2688, kLatent = 1024;
  struct Operands {
    std::vector<PackedMatrix> weights;
    std::vector<int64_t> offsets;
    Matrix x, y;
  };
  const int64_t rows = experts * rows_per_expert;
  auto operands = std::make_shared<Operands>(Operands{{}, {0}, Matrix(rows, kLatent), Matrix(rows, kWidth)});
  for (int64_t e = 0; e < experts; ++e) {
    operands->weights.push_back(random_weight(kWidth, kLatent));
    operands->offsets.push_back((e + 1) * rows_per_expert);
  }
  return {.name = std::to_string(experts) + " experts 2688x1024, " + std::to_string(rows_per_expert) +
                  " rows each",
          .bytes = static_cast<double>(2 * experts * kWidth * kLatent),
          .bf16_flops = 2.0 * static_cast<double>(rows * kWidth * kLatent),
          .run = [operands](const Context& context) {
            kernels::matmul_grouped(context, operands->x.view(), operands->offsets, operands->weights,
                                    operands->y.view());
          }};
}

}  // namespace

std::vector<Case> matmul_cases() {
  std::vector<Case> cases;
  for (const int64_t rows : {1, 4, 8, 32, 128, 512}) cases.push_back(matmul_case(rows, 4096, 4096));
  cases.push_back(matmul_case(1, 131072, 4096));
  cases.push_back(matmul_case(128, 18560, 4096));
  for (const int64_t rows : {1, 8, 32}) cases.push_back(grouped_case(64, rows));
  return cases;
}

}  // namespace nemo::bench
