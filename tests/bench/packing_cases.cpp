// Packing rows as they are loaded: portions of a checkpoint's rows, from the caches, into a matrix in memory.
// Each thread packs portions of its own, so the rate of one is what there is between a disk and the weights.
#include <algorithm>

#include "kernels/ops/matmul.h"
#include "tests/bench/cases.h"
#include "tests/bench/operands.h"

namespace nemo::bench {

namespace {

using kernels::Context;
using kernels::PackedMatrix;
using kernels::TensorView;
using kernels::WeightFormat;

constexpr int64_t kN = 16384, kK = 4096;
constexpr int64_t kPortionRows = 256;

/// `codes`: bytes for as many rows of any format.
void pack_portion(PackedMatrix& matrix, int64_t row, const std::vector<uint8_t>& codes) {
  switch (matrix.format()) {
    case WeightFormat::kFloat32:
      return matrix.pack_rows(
          row, TensorView<const float>(reinterpret_cast<const float*>(codes.data()), kPortionRows, kK));
    case WeightFormat::kBFloat16:
      return matrix.pack_rows(
          row, TensorView<const kernels::bf16>(reinterpret_cast<const kernels::bf16*>(codes.data()),
                                               kPortionRows, kK));
    case WeightFormat::kFp8:
      return matrix.pack_fp8_rows(row, {codes.data(), kPortionRows, kK});
    case WeightFormat::kNvfp4:
      return matrix.pack_nvfp4_rows(row, {codes.data(), kPortionRows, kK / 2},
                                    {codes.data(), kPortionRows, kK / kernels::kNvfp4Block});
  }
}

Case packing_case(WeightFormat format, const char* name) {
  struct Operands {
    PackedMatrix matrix;
    std::vector<uint8_t> codes;
  };
  auto operands = std::make_shared<Operands>(
      Operands{PackedMatrix(format, kN, kK), std::vector<uint8_t>(kPortionRows * kK * sizeof(float))});
  std::mt19937 random(1);
  std::ranges::generate(operands->codes, [&] { return static_cast<uint8_t>(random()); });
  return {.name = std::string("pack ") + name + " rows, 16384x4096",
          .bytes = static_cast<double>(operands->matrix.bytes()),
          .run = [operands](const Context& context) {
            context.threads.run(kN / kPortionRows, [&](int64_t portion) {
              pack_portion(operands->matrix, portion * kPortionRows, operands->codes);
            });
          }};
}

}  // namespace

std::vector<Case> packing_cases() {
  return {packing_case(WeightFormat::kBFloat16, "bf16"), packing_case(WeightFormat::kFp8, "fp8"),
          packing_case(WeightFormat::kNvfp4, "nvfp4")};
}

}  // namespace nemo::bench
