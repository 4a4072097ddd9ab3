#include "tests/bench/cases.h"

#include <random>

#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/logits.h"
#include "kernels/ops/mamba2.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/router.h"

namespace nemo::bench {

namespace {

using kernels::bf16;
using kernels::Context;
using kernels::DType;
using kernels::PackedMatrix;
using kernels::TensorView;

struct Matrix {
  std::vector<float> values;
  int64_t rows, cols;
  Matrix(int64_t rows_, int64_t cols_, float scale = 1.0f)
      : values(static_cast<size_t>(rows_ * cols_)), rows(rows_), cols(cols_) {
    std::mt19937 random(static_cast<unsigned>(rows_ * 31 + cols_));
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (float& value : values) value = uniform(random);
  }
  TensorView<float> view() { return {values.data(), rows, cols}; }
};

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

Case scan_case(int64_t sequences, int64_t rows_each) {
  const kernels::Mamba2Shape shape{
      .num_heads = 128, .head_dim = 64, .num_groups = 8, .state_size = 128, .conv_kernel = 4};
  struct Operands {
    Matrix xbc, dt, y, a_log, d, dt_bias;
    std::vector<float> ssm;
    std::vector<kernels::Segment> segments;
  };
  const int64_t rows = sequences * rows_each;
  const int64_t state = shape.inner() * shape.state_size;
  auto operands = std::make_shared<Operands>(Operands{Matrix(rows, shape.conv_dim()),
                                                      Matrix(rows, shape.num_heads),
                                                      Matrix(rows, shape.inner()),
                                                      Matrix(1, shape.num_heads),
                                                      Matrix(1, shape.num_heads),
                                                      Matrix(1, shape.num_heads),
                                                      {},
                                                      {}});
  operands->ssm.assign(static_cast<size_t>(sequences * state), 0.0f);
  for (int64_t s = 0; s < sequences; ++s)
    operands->segments.push_back(
        {.row_begin = s * rows_each, .row_count = rows_each, .slot = static_cast<int32_t>(s), .position = 1});
  return {.name = "selective scan, " + std::to_string(sequences) + " sequences x " +
                  std::to_string(rows_each) + " rows",
          .bytes = 2.0 * 4.0 * static_cast<double>(sequences * state),
          .float32_flops = 5.0 * static_cast<double>(rows * state),
          .run = [operands, shape, sequences](const Context& context) {
            const kernels::Mamba2Weights weights{.a_log = operands->a_log.values,
                                                 .d = operands->d.values,
                                                 .dt_bias = operands->dt_bias.values};
            kernels::selective_scan(
                context, operands->segments, operands->xbc.view(), operands->dt.view(), shape, weights,
                {.conv = nullptr, .ssm = operands->ssm.data(), .num_slots = sequences}, operands->y.view());
          }};
}

Case attention_case(int64_t sequences, int64_t rows_each, int64_t context_tokens) {
  constexpr int64_t kHeads = 32, kKvHeads = 2, kHeadDim = 128;
  struct Operands {
    Matrix q, out;
    std::vector<std::byte> keys, values;
    std::vector<kernels::Segment> segments;
    std::vector<std::vector<int32_t>> tables;
    std::vector<kernels::PageTable> views;
  };
  const int64_t rows = sequences * rows_each;
  auto operands = std::make_shared<Operands>(
      Operands{Matrix(rows, kHeads * kHeadDim), Matrix(rows, kHeads * kHeadDim), {}, {}, {}, {}, {}});
  const int64_t pages_each = (context_tokens + kernels::kKvPageTokens - 1) / kernels::kKvPageTokens;
  const auto bytes = static_cast<size_t>(
      sequences * pages_each * kernels::KvPages::page_bytes(DType::kBFloat16, kKvHeads, kHeadDim) / 2);
  operands->keys.assign(bytes, std::byte{0x3c});
  operands->values.assign(bytes, std::byte{0x3c});
  for (int64_t s = 0; s < sequences; ++s) {
    operands->segments.push_back({.row_begin = s * rows_each,
                                  .row_count = rows_each,
                                  .slot = 0,
                                  .position = context_tokens - rows_each});
    std::vector<int32_t>& table = operands->tables.emplace_back();
    for (int64_t p = 0; p < pages_each; ++p) table.push_back(static_cast<int32_t>(s * pages_each + p));
  }
  for (const auto& table : operands->tables) operands->views.emplace_back(table);
  return {
      .name = "attention, " + std::to_string(sequences) + " x " + std::to_string(rows_each) + " rows, " +
              std::to_string(context_tokens) + " keys",
      .bytes = 2.0 * static_cast<double>(bytes),
      .bf16_flops = 4.0 * static_cast<double>(rows * (context_tokens - rows_each / 2) * kHeads * kHeadDim),
      .run = [operands, pages = sequences * pages_each](const Context& context) {
        kernels::paged_attention(context, operands->segments, operands->views, operands->q.view(), kHeads,
                                 {.dtype = DType::kBFloat16,
                                  .keys = operands->keys.data(),
                                  .values = operands->values.data(),
                                  .num_pages = pages,
                                  .num_kv_heads = kKvHeads,
                                  .head_dim = kHeadDim},
                                 operands->out.view());
      }};
}

Case router_case(int64_t rows) {
  struct Operands {
    Matrix logits, bias, weights;
    std::vector<int32_t> ids;
  };
  auto operands =
      std::make_shared<Operands>(Operands{Matrix(rows, 512), Matrix(1, 512), Matrix(rows, 22), {}});
  operands->ids.resize(static_cast<size_t>(rows * 22));
  return {.name = "router, top 22 of 512, " + std::to_string(rows) + " rows",
          .bytes = 4.0 * static_cast<double>(rows * 512),
          .run = [operands, rows](const Context& context) {
            kernels::route(context, operands->logits.view(), operands->bias.values,
                           {.num_experts = 512, .top_k = 22}, {operands->ids.data(), rows, 22},
                           operands->weights.view());
          }};
}

Case logits_case(int64_t rows) {
  struct Operands {
    Matrix logits;
    std::vector<kernels::LogitStats> stats;
  };
  auto operands = std::make_shared<Operands>(Operands{Matrix(rows, 131072), {}});
  operands->stats.resize(static_cast<size_t>(rows));
  return {.name = "logit statistics, " + std::to_string(rows) + " x 131072",
          .bytes = 4.0 * static_cast<double>(rows * 131072),
          .run = [operands](const Context& context) {
            kernels::logit_stats(context, operands->logits.view(), operands->stats);
          }};
}

}  // namespace

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const int64_t rows : {1, 4, 8, 32, 128, 512}) cases.push_back(matmul_case(rows, 4096, 4096));
  cases.push_back(matmul_case(1, 131072, 4096));
  cases.push_back(matmul_case(128, 18560, 4096));
  for (const int64_t rows : {1, 8, 32}) cases.push_back(grouped_case(64, rows));
  cases.push_back(scan_case(1, 128));
  cases.push_back(scan_case(16, 1));
  cases.push_back(attention_case(16, 1, 4096));
  cases.push_back(attention_case(1, 128, 8192));
  cases.push_back(router_case(16));
  cases.push_back(logits_case(16));
  return cases;
}

}  // namespace nemo::bench
