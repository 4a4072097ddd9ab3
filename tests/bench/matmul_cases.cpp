// Matrix products, and the experts' grouped ones. What row-purity costs them: impure.h.
#include "kernels/ops/matmul.h"
#include "tests/bench/cases.h"
#include "tests/bench/operands.h"

namespace nemo::bench {

namespace {

using kernels::Context;
using kernels::DType;
using kernels::PackedMatrix;
using kernels::TensorView;
using kernels::WeightFormat;

const char* name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFloat32:
      return "fp32";
    case WeightFormat::kBFloat16:
      return "bf16";
    case WeightFormat::kFp8:
      return "fp8";
    case WeightFormat::kNvfp4:
      return "nvfp4";
  }
  return "";
}

/// 64 random rows again and again. No e4m3 weight is a subnormal number: a machine may multiply these more
/// slowly, and checkpoints, scaled to the largest weight, have hardly any.
PackedMatrix random_weight(WeightFormat format, int64_t n, int64_t k) {
  constexpr int64_t kRows = 64;
  PackedMatrix weight(format, n, k);
  Matrix floats(kRows, k, 0.05f);
  std::mt19937 random(1);
  std::vector<uint8_t> codes(static_cast<size_t>(kRows * k));
  const unsigned normal = format == WeightFormat::kFp8 ? 0x10 : 0;
  for (uint8_t& code : codes) code = static_cast<uint8_t>((random() & 0xbf) | normal);  // magnitudes below 2
  for (int64_t row = 0; row < n; row += kRows) {
    const int64_t rows = std::min(kRows, n - row);
    if (format == WeightFormat::kFp8) {
      weight.pack_fp8_rows(row, {codes.data(), rows, k});
    } else if (format == WeightFormat::kNvfp4) {
      weight.pack_nvfp4_rows(row, TensorView<const uint8_t>(codes.data(), rows, k / 2),
                             {codes.data(), rows, k / kernels::kNvfp4Block});
    } else {
      weight.pack_rows(row, floats.view().slice_rows(0, rows));
    }
  }
  return weight;
}

/// Several matrices in turn, so that each is read from memory and not from the caches.
Case matmul_case(WeightFormat format, int64_t rows, int64_t n, int64_t k) {
  struct Operands {
    std::vector<PackedMatrix> weights;
    Matrix x, y;
    size_t next = 0;
  };
  auto operands = std::make_shared<Operands>(Operands{{}, Matrix(rows, k), Matrix(rows, n)});
  for (int64_t bytes = 0; bytes < (int64_t{256} << 20); bytes += operands->weights.back().bytes())
    operands->weights.push_back(random_weight(format, n, k));
  return {.name = std::string("matmul ") + name_of(format) + " " + std::to_string(n) + "x" +
                  std::to_string(k) + ", " + std::to_string(rows) + " rows",
          .bytes = static_cast<double>(PackedMatrix::packed_bytes(format, n, k)),
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
    operands->weights.push_back(random_weight(WeightFormat::kBFloat16, kWidth, kLatent));
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
  for (const int64_t rows : {1, 2, 4, 8, 16, 32, 128, 512})
    cases.push_back(matmul_case(WeightFormat::kBFloat16, rows, 4096, 4096));
  cases.push_back(matmul_case(WeightFormat::kBFloat16, 1, 131072, 4096));
  cases.push_back(matmul_case(WeightFormat::kBFloat16, 128, 18560, 4096));
  cases.push_back(matmul_case(WeightFormat::kBFloat16, 128, 8192, 4096));
  cases.push_back(matmul_case(WeightFormat::kBFloat16, 128, 2688, 1024));
  cases.push_back(matmul_case(WeightFormat::kBFloat16, 128, 1024, 2688));
  for (Case& entry : onednn_cases()) cases.push_back(std::move(entry));
  for (const WeightFormat format : {WeightFormat::kFp8, WeightFormat::kNvfp4})
    for (const int64_t rows : {1, 2, 4, 8, 128}) cases.push_back(matmul_case(format, rows, 4096, 4096));
  for (const int64_t rows : {1, 8, 32}) cases.push_back(grouped_case(64, rows));
  return cases;
}

}  // namespace nemo::bench
