#include "tests/bench/calibration.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "kernels/ops/attention.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/logits.h"
#include "kernels/ops/mamba2.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/router.h"
#include "lib/sampling/sampler.h"
#include "tests/bench/ceilings.h"
#include "tests/bench/operands.h"
#include "tests/bench/stopwatch.h"

namespace nemo::bench {

namespace {

using dist::Rate;
using kernels::Context;
using kernels::PackedMatrix;
using kernels::WeightFormat;

constexpr double kBudgetS = 0.1;
/// Weights used in turn are more than any cache holds, so that each is read from memory.
constexpr int64_t kRotationBytes = int64_t{192} << 20;
constexpr size_t kExperts = 16;  // in one call
constexpr int64_t kProductRows[] = {1, 2, 4, 8, 16, 32, 64, 128, 512};
constexpr int64_t kExpertRows[] = {1, 2, 4, 8, 16, 32, 64, 128};

/// Medians: what a job gets too, whatever else the machine has to do.
template <class Work>
double usual_seconds(Work&& work) {
  return median_seconds(kBudgetS, work);
}

/// Zeros: the speed of a product does not depend on its values. Written, or all of a new matrix's pages would
/// be the system's one page of zeros, which is in the caches.
std::vector<PackedMatrix> weights_of(WeightFormat format, int64_t n, int64_t k) {
  std::vector<PackedMatrix> weights;
  for (int64_t bytes = 0; bytes < kRotationBytes || weights.size() < kExperts;
       bytes += weights.back().bytes()) {
    PackedMatrix& weight = weights.emplace_back(format, n, k);
    std::memset(weight.data(), 0, static_cast<size_t>(weight.bytes()));
  }
  return weights;
}

double seconds_of_product(const Context& context, const std::vector<PackedMatrix>& weights, int64_t rows) {
  Matrix x(rows, weights[0].k()), y(rows, weights[0].n());
  size_t next = 0;
  return usual_seconds([&] {
    kernels::matmul(context, x.view(), weights[next], y.view());
    next = (next + 1) % weights.size();
  });
}

double seconds_of_experts(const Context& context, const std::vector<PackedMatrix>& weights, int64_t rows) {
  const int64_t num_rows = static_cast<int64_t>(kExperts) * rows;
  Matrix x(num_rows, weights[0].k()), y(num_rows, weights[0].n());
  std::vector<int64_t> offsets;
  for (size_t e = 0; e <= kExperts; ++e) offsets.push_back(static_cast<int64_t>(e) * rows);
  size_t next = 0;
  return usual_seconds([&] {
           if (next + kExperts > weights.size()) next = 0;
           kernels::matmul_grouped(context, x.view(), offsets, std::span(weights).subspan(next, kExperts),
                                   y.view());
           next += kExperts;
         }) /
         static_cast<double>(kExperts);
}

using SecondsOf = double (*)(const Context&, const std::vector<PackedMatrix>&, int64_t rows);

dist::ProductCurve measure_curve(const Context& context, const std::vector<PackedMatrix>& weights,
                                 std::span<const int64_t> rows, SecondsOf seconds_of) {
  dist::ProductCurve curve;
  const auto num_weights = static_cast<double>(weights[0].n() * weights[0].k());
  for (const int64_t num_rows : rows) {
    curve.rows.push_back(static_cast<double>(num_rows));
    curve.seconds_per_weight.push_back(seconds_of(context, weights, num_rows) / num_weights);
  }
  return curve;
}

/// Segments of `rows_each` rows, one a sequence, that end at `context_tokens`.
std::vector<kernels::Segment> segments_of(int64_t sequences, int64_t rows_each, int64_t context_tokens) {
  std::vector<kernels::Segment> segments;
  for (int64_t s = 0; s < sequences; ++s)
    segments.push_back({.row_begin = s * rows_each,
                        .row_count = rows_each,
                        .slot = static_cast<int32_t>(s),
                        .position = context_tokens - rows_each});
  return segments;
}

/// Operations a second.
double measure_attention(const Context& context, int64_t sequences, int64_t rows_each, int64_t context_tokens,
                         kernels::KvFormat format) {
  constexpr int64_t kHeads = 32, kKvHeads = 2, kHeadDim = 128;
  const int64_t rows = sequences * rows_each;
  const int64_t pages_each = context_tokens / kernels::kKvPageTokens;
  const int64_t page_bytes = kernels::KvPages::page_bytes(format, kKvHeads, kHeadDim);
  std::vector<std::byte> keys(static_cast<size_t>(sequences * pages_each * page_bytes / 2)), values(keys);
  std::vector<std::vector<int32_t>> tables(static_cast<size_t>(sequences));
  int32_t page = 0;
  for (auto& table : tables)
    for (int64_t p = 0; p < pages_each; ++p) table.push_back(page++);
  const std::vector<kernels::PageTable> views(tables.begin(), tables.end());
  const auto segments = segments_of(sequences, rows_each, context_tokens);
  Matrix q(rows, kHeads * kHeadDim), out(rows, kHeads * kHeadDim);
  const kernels::KvPages pages{.format = format,
                               .keys = keys.data(),
                               .values = values.data(),
                               .num_pages = sequences * pages_each,
                               .num_kv_heads = kKvHeads,
                               .head_dim = kHeadDim};
  const double seconds = usual_seconds(
      [&] { kernels::paged_attention(context, segments, views, q.view(), kHeads, pages, out.view()); });
  return 4.0 * static_cast<double>(rows * (context_tokens - rows_each / 2) * kHeads * kHeadDim) / seconds;
}

/// Elements of state a second: convolution, scan and gated norm.
double measure_scan(const Context& context, int64_t sequences, int64_t rows_each) {
  const kernels::Mamba2Shape shape{
      .num_heads = 64, .head_dim = 64, .num_groups = 8, .state_size = 128, .conv_kernel = 4};
  const int64_t rows = sequences * rows_each, state_size = shape.inner() * shape.state_size;
  Matrix u(rows, shape.conv_dim()), v(rows, shape.conv_dim()), dt(rows, shape.num_heads);
  Matrix y(rows, shape.inner()), gate(rows, shape.inner());
  Matrix per_head(3, shape.num_heads), conv_weight(shape.conv_dim(), shape.conv_kernel),
      norm(1, shape.inner());
  std::vector<float> conv(static_cast<size_t>(sequences * (shape.conv_kernel - 1) * shape.conv_dim()));
  std::vector<float> ssm(static_cast<size_t>(sequences * state_size));
  const auto vector_of = [&](int64_t row) {
    return std::span<const float>(per_head.view().row(row), static_cast<size_t>(shape.num_heads));
  };
  const kernels::Mamba2Weights weights{.conv_weight = conv_weight.values,
                                       .conv_bias = {},
                                       .a_log = vector_of(0),
                                       .d = vector_of(1),
                                       .dt_bias = vector_of(2)};
  const kernels::MambaState state{.conv = conv.data(), .ssm = ssm.data(), .num_slots = sequences};
  const auto segments = segments_of(sequences, rows_each, 2 * rows_each);
  const double seconds = usual_seconds([&] {
    kernels::causal_conv_silu(context, segments, u.view(), shape, weights, state, v.view());
    kernels::selective_scan(context, segments, v.view(), dt.view(), shape, weights, state, y.view());
    kernels::gated_group_rms_norm(context, y.view(), gate.view(), norm.values, shape.num_groups, 1e-5f,
                                  y.view());
  });
  return static_cast<double>(rows * state_size) / seconds;
}

double measure_elements(const Context& context) {
  Matrix x(256, 4096), y(256, 4096), weight(1, 4096);
  const double seconds = usual_seconds([&] {
    kernels::rms_norm(context, x.view(), weight.values, 1e-5f, y.view());
    kernels::add_residual(context, y.view(), x.view());
  });
  return 2.0 * 256 * 4096 / seconds;
}

double measure_router(const Context& context) {
  constexpr int64_t kRows = 256, kNumExperts = 512, kTopK = 22;
  Matrix logits(kRows, kNumExperts), bias(1, kNumExperts), weights(kRows, kTopK);
  std::vector<int32_t> ids(static_cast<size_t>(kRows * kTopK));
  const double seconds = usual_seconds([&] {
    kernels::route(context, logits.view(), bias.values, {.num_experts = kNumExperts, .top_k = kTopK},
                   {ids.data(), kRows, kTopK}, weights.view());
  });
  return kRows * kNumExperts / seconds;
}

/// Statistics and one draw a row, as dist/pipeline/output_stage does them.
double measure_logits(const Context& context) {
  constexpr int64_t kRows = 16, kVocabSize = 131072;
  Matrix logits(kRows, kVocabSize);
  std::vector<kernels::LogitStats> stats(kRows);
  const Sampler sampler{SamplingKey{}};
  const double seconds = usual_seconds([&] {
    kernels::logit_stats(context, logits.view(), stats);
    context.threads.run(kRows, [&](int64_t row) {
      sampler.sample({logits.view().row(row), static_cast<size_t>(kVocabSize)},
                     stats[static_cast<size_t>(row)], row);
    });
  });
  return kRows * kVocabSize / seconds;
}

/// Waits for the other rank.
void meet(dist::Communicator& world) {
  const int64_t nothing = 0;
  world.all_max({&nothing, 1}, "both ranks to measure messages");
}

double measure_calls(const Context& context) {
  constexpr int64_t kCalls = 1000;
  const double seconds = usual_seconds([&] {
    for (int64_t i = 0; i < kCalls; ++i)
      context.threads.run(2 * context.threads.num_threads(), [](int64_t) { asm volatile("" ::: "memory"); });
  });
  return kCalls / seconds;
}

}  // namespace

dist::KernelRates measure_kernels(int num_threads) {
  kernels::ThreadPool threads(num_threads);
  const Context context{threads, kernels::detect_isa(), kernels::DType::kBFloat16};
  dist::KernelRates run{.threads = num_threads, .products = {}, .experts = {}};
  run[Rate::kReadBytes] = measure_ceilings(threads, context.isa).read_bytes_per_s;
  const kernels::KvFormat kept = kernels::kv_format(context.dtype);
  run[Rate::kAttentionDecode] = measure_attention(context, 32, 1, 2048, kept);
  run[Rate::kAttentionDecodeFp8] = measure_attention(context, 32, 1, 2048, kernels::KvFormat::kFp8);
  run[Rate::kAttentionPrefill] = measure_attention(context, 1, 256, 1024, kept);
  run[Rate::kScanDecode] = measure_scan(context, 32, 1);
  run[Rate::kScanPrefill] = measure_scan(context, 2, 256);
  run[Rate::kElements] = measure_elements(context);
  run[Rate::kRouterScores] = measure_router(context);
  run[Rate::kLogits] = measure_logits(context);
  run[Rate::kCalls] = measure_calls(context);
  for (size_t i = 0; i < dist::kNumWeightFormats; ++i) {
    const auto format = static_cast<WeightFormat>(i);
    run.products[i] =
        measure_curve(context, weights_of(format, 4096, 2688), kProductRows, seconds_of_product);
    run.experts[i] = measure_curve(context, weights_of(format, 1856, 2688), kExpertRows, seconds_of_experts);
  }
  return run;
}

dist::MessageCost measure_messages(dist::Communicator& world) {
  constexpr int kRounds = 100;
  const auto one_way = [&](size_t bytes) {
    meet(world);
    return fastest(3,
                   [&] {
                     for (int i = 0; i < kRounds; ++i) {
                       if (world.rank() == 0) world.post(1, dist::Tag::kHidden, std::string(bytes, 'x'));
                       if (world.rank() <= 1)
                         world.receive(1 - world.rank(), dist::Tag::kHidden, "a message");
                       if (world.rank() == 1) world.post(0, dist::Tag::kHidden, std::string(bytes, 'x'));
                     }
                   }) /
           (2 * kRounds);
  };
  constexpr size_t kSmall = 64, kLarge = 1 << 20;
  const double small = one_way(kSmall), large = one_way(kLarge);
  return {.latency_s = small, .bytes_per_s = static_cast<double>(kLarge - kSmall) / (large - small)};
}

}  // namespace nemo::bench
