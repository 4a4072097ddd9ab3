#include "tests/bench/cases.h"

#include <algorithm>
#include <iterator>

#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/logits.h"
#include "kernels/ops/mamba2.h"
#include "kernels/ops/router.h"
#include "lib/sampling/sampler.h"
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

Case conv_case(int64_t rows) {
  const kernels::Mamba2Shape shape{
      .num_heads = 128, .head_dim = 64, .num_groups = 8, .state_size = 128, .conv_kernel = 4};
  struct Operands {
    Matrix u, v, weight, bias, past;
  };
  auto operands = std::make_shared<Operands>(
      Operands{Matrix(rows, shape.conv_dim()), Matrix(rows, shape.conv_dim()),
               Matrix(shape.conv_dim(), shape.conv_kernel), Matrix(1, shape.conv_dim()),
               Matrix(shape.conv_kernel - 1, shape.conv_dim())});
  return {.name = "convolution and silu, " + std::to_string(rows) + " rows of 10240",
          .bytes = 8.0 * static_cast<double>(rows * shape.conv_dim()),
          .run = [operands, shape, rows](const Context& context) {
            const kernels::Segment segment{.row_begin = 0, .row_count = rows, .position = 1};
            kernels::causal_conv_silu(
                context, {&segment, 1}, operands->u.view(), shape,
                {.conv_weight = operands->weight.values, .conv_bias = operands->bias.values},
                {.conv = operands->past.values.data(), .ssm = nullptr, .num_slots = 1}, operands->v.view());
          }};
}

Case gated_norm_case(int64_t rows) {
  constexpr int64_t kWidth = 8192, kGroups = 8;
  struct Operands {
    Matrix x, gate, weight, out;
  };
  auto operands = std::make_shared<Operands>(
      Operands{Matrix(rows, kWidth), Matrix(rows, kWidth), Matrix(1, kWidth), Matrix(rows, kWidth)});
  return {.name = "gated norm, " + std::to_string(rows) + " rows of 8192",
          .bytes = 12.0 * static_cast<double>(rows * kWidth),
          .run = [operands](const Context& context) {
            kernels::gated_group_rms_norm(context, operands->x.view(), operands->gate.view(),
                                          operands->weight.values, kGroups, 1e-5f, operands->out.view());
          }};
}

Case norm_case(int64_t rows) {
  constexpr int64_t kWidth = 4096;
  struct Operands {
    Matrix x, weight, out;
  };
  auto operands =
      std::make_shared<Operands>(Operands{Matrix(rows, kWidth), Matrix(1, kWidth), Matrix(rows, kWidth)});
  return {.name = "norm, " + std::to_string(rows) + " rows of 4096",
          .bytes = 8.0 * static_cast<double>(rows * kWidth),
          .run = [operands](const Context& context) {
            kernels::rms_norm(context, operands->x.view(), operands->weight.values, 1e-5f,
                              operands->out.view());
          }};
}

Case attention_case(int64_t sequences, int64_t rows_each, int64_t context_tokens,
                    kernels::KvFormat format = kernels::KvFormat::kBFloat16) {
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
  const auto bytes = static_cast<size_t>(sequences * pages_each *
                                         kernels::KvPages::page_bytes(format, kKvHeads, kHeadDim) / 2);
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
              std::to_string(context_tokens) + (format == kernels::KvFormat::kFp8 ? " keys in FP8" : " keys"),
      .bytes = 2.0 * static_cast<double>(bytes),
      .bf16_flops = 4.0 * static_cast<double>(rows * (context_tokens - rows_each / 2) * kHeads * kHeadDim),
      .run = [operands, format, pages = sequences * pages_each](const Context& context) {
        kernels::paged_attention(context, operands->segments, operands->views, operands->q.view(), kHeads,
                                 {.format = format,
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

/// At temperature 1 over the whole vocabulary.
Case draw_case(int64_t sequences) {
  struct Operands {
    Matrix logits;
    std::vector<kernels::LogitStats> stats;
    std::vector<Sampler> samplers;
    int64_t position = 0;
  };
  auto operands = std::make_shared<Operands>(Operands{Matrix(sequences, 131072), {}, {}});
  operands->stats.resize(static_cast<size_t>(sequences));
  for (int64_t s = 0; s < sequences; ++s)
    operands->samplers.emplace_back(SamplingKey{.params = {}, .request_hash = static_cast<uint64_t>(s)});
  return {.name = "logit statistics and draw, " + std::to_string(sequences) + " x 131072",
          .bytes = 4.0 * static_cast<double>(sequences * 131072),
          .run = [operands](const Context& context) {
            const auto logits = operands->logits.view();
            kernels::logit_stats(context, logits, operands->stats);
            context.threads.run(logits.rows, [&](int64_t s) {
              const auto i = static_cast<size_t>(s);
              operands->samplers[i].sample({logits.row(s), static_cast<size_t>(logits.cols)},
                                           operands->stats[i], operands->position);
            });
            ++operands->position;
          }};
}

}  // namespace

std::vector<Case> all_cases() {
  std::vector<Case> cases = matmul_cases();
  std::ranges::move(tile_cases(), std::back_inserter(cases));
  cases.push_back(scan_case(1, 128));
  cases.push_back(scan_case(16, 1));
  cases.push_back(conv_case(128));
  cases.push_back(gated_norm_case(128));
  cases.push_back(attention_case(16, 1, 4096));
  cases.push_back(attention_case(16, 1, 4096, kernels::KvFormat::kFp8));
  cases.push_back(attention_case(1, 1, 32768));
  cases.push_back(attention_case(1, 1, 32768, kernels::KvFormat::kFp8));
  cases.push_back(attention_case(1, 128, 8192));
  cases.push_back(attention_case(1, 128, 8192, kernels::KvFormat::kFp8));
  cases.push_back(norm_case(16));
  cases.push_back(router_case(16));
  cases.push_back(logits_case(16));
  cases.push_back(draw_case(16));
  std::ranges::move(packing_cases(), std::back_inserter(cases));
  return cases;
}

}  // namespace nemo::bench
