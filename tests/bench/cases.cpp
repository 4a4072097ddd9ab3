#include "tests/bench/cases.h"

#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/logits.h"
#include "kernels/ops/mamba2.h"
#include "kernels/ops/router.h"
#include "tests/bench/operands.h"

namespace nemo::bench {

namespace {

using kernels::Context;
using kernels::DType;

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
  std::vector<Case> cases = matmul_cases();
  cases.push_back(scan_case(1, 128));
  cases.push_back(scan_case(16, 1));
  cases.push_back(attention_case(16, 1, 4096));
  cases.push_back(attention_case(1, 128, 8192));
  cases.push_back(router_case(16));
  cases.push_back(logits_case(16));
  return cases;
}

}  // namespace nemo::bench
