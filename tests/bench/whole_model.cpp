#include "tests/bench/whole_model.h"

#include <algorithm>
#include <cmath>

#include "dist/plan/cost_model.h"
#include "dist/plan/memory.h"
#include "kernels/ops/logits.h"
#include "lib/model/forward.h"
#include "tests/bench/stopwatch.h"

namespace nemo::bench {

namespace {

using kernels::Context;
using kernels::DType;
using kernels::TensorView;
using kernels::ThreadPool;

constexpr int64_t kPromptTokens = 512;  ///< of a prefill step; also the context of decoding
constexpr int64_t kMostSequences = 32;
constexpr double kBudgetS = 2;

class Model {
 public:
  Model(const std::string& path, DType dtype)
      : config_(load_model_config(path)),
        state_(config_, {.layer_begin = 0,
                         .layer_end = config_.num_layers(),
                         .num_slots = kMostSequences,
                         .num_pages = kMostSequences * kPagesEach,
                         .kv_format = kernels::kv_format(dtype)}) {
    const Checkpoint checkpoint = Checkpoint::open(path, config_);
    for (int64_t i = 0; i < config_.num_layers(); ++i) {
      const kernels::ExpertRange all{0, config_.layers[static_cast<size_t>(i)].n_routed_experts};
      layers_.push_back(load_layer(checkpoint, config_, i, all, dtype));
    }
    embedding_ = load_embedding(checkpoint, config_, dtype);
    head_ = load_lm_head(checkpoint, config_, dtype);
    for (int32_t slot = 0; slot < kMostSequences; ++slot) {
      std::vector<int32_t> pages;
      for (int32_t page = 0; page < kPagesEach; ++page) pages.push_back(slot * kPagesEach + page);
      state_.prepare(slot, 0, pages);
    }
  }

  const ModelConfig& config() const { return config_; }

  /// `rows_each` tokens of each sequence at `position`, and a token drawn from the last row of each.
  void step(const Context& context, int64_t num_sequences, int64_t rows_each, int64_t position) {
    std::vector<kernels::Segment> segments;
    std::vector<kernels::PageTable> tables;
    for (int32_t s = 0; s < num_sequences; ++s) {
      segments.push_back(
          {.row_begin = s * rows_each, .row_count = rows_each, .slot = s, .position = position});
      tables.push_back(state_.page_table(s));
    }
    const int64_t rows = num_sequences * rows_each;
    std::vector<int32_t> tokens(static_cast<size_t>(rows));
    for (int32_t& token : tokens)
      token = next_token_ = (next_token_ * 5 + 7) % static_cast<int32_t>(config_.vocab_size);
    std::vector<float> residual(static_cast<size_t>(rows * config_.hidden_size));
    const TensorView<float> stream(residual.data(), rows, config_.hidden_size);
    kernels::embed(context, tokens, embedding_, stream);
    const Step step{context, config_, workspace_, segments, tables};
    for (int64_t i = 0; i < config_.num_layers(); ++i)
      forward_layer(step, i, layers_[static_cast<size_t>(i)], state_, stream,
                    [&](const LayerConfig& config, const MoeLayer& layer, TensorView<const float> x,
                        TensorView<float> y) { moe_mixer(step, config, layer, x, y); });
    // The last row of each sequence.
    const TensorView<const float> last(stream.row(rows_each - 1), num_sequences, stream.cols,
                                       rows_each * stream.stride);
    Workspace::Frame frame(workspace_);
    auto logits = workspace_.tensor<float>(num_sequences, config_.vocab_size);
    std::vector<kernels::LogitStats> stats(static_cast<size_t>(num_sequences));
    forward_lm_head(context, config_, workspace_, head_, last, logits);
    kernels::logit_stats(context, logits, stats);
  }

 private:
  static constexpr int64_t kPagesEach = kPromptTokens / kernels::kKvPageTokens + 1;

  ModelConfig config_;
  StateCache state_;
  std::vector<Layer> layers_;
  kernels::EmbeddingTable embedding_;
  LmHead head_;
  Workspace workspace_;
  int32_t next_token_ = 1;
};

/// The least a step can take: every byte it needs read once, or every operation done.
double floor_seconds(const ModelConfig& config, int64_t sequences, int64_t rows_each, double mean_context,
                     const Ceilings& ceilings) {
  const dist::MemoryModel memory(config, DType::kBFloat16, 1);
  const std::vector<dist::LayerWork> work = dist::model_work(config, DType::kBFloat16);
  const auto rows = static_cast<double>(sequences * rows_each),
             num_sequences = static_cast<double>(sequences);
  const auto sum = [](const dist::WeightsByFormat& weights) {
    double total = 0;
    for (const double of_format : weights) total += of_format;
    return total;
  };
  double bytes = static_cast<double>(memory.head_bytes()),
         flops = 2 * num_sequences * sum(work.back().shared);
  for (int64_t i = 0; i < config.num_layers(); ++i) {
    const dist::LayerBytes& layer = memory.layer(i);
    const dist::LayerWork& of = work[static_cast<size_t>(i)];
    bytes += static_cast<double>(layer.shared_weights) +
             num_sequences * (2 * static_cast<double>(layer.state_per_sequence) +
                              mean_context * static_cast<double>(layer.kv_per_token));
    flops += rows * (2 * sum(of.shared) + 2 * of.top_k * sum(of.expert) + mean_context * of.context_flops);
    if (of.num_experts == 0) continue;
    const double chosen = of.num_experts * (1 - std::pow(1 - of.top_k / of.num_experts, rows));
    bytes += chosen * static_cast<double>(layer.expert_weights);
  }
  return std::max(bytes / ceilings.read_bytes_per_s, flops / ceilings.bfloat16_flops_per_s);
}

}  // namespace

std::vector<ModelRow> measure_model(const std::string& path, kernels::ThreadPool& threads,
                                    const Ceilings& ceilings) {
  const Context context{threads, kernels::detect_isa(), DType::kBFloat16};
  ThreadPool one_thread(1);
  const Context alone{one_thread, context.isa, context.dtype};
  Model model(path, context.dtype);
  std::vector<ModelRow> result;
  const auto measure = [&](const std::string& phase, int64_t sequences, int64_t rows_each, int64_t position) {
    const auto step = [&](const Context& with) { model.step(with, sequences, rows_each, position); };
    const bool compare = rows_each > 1 && threads.num_threads() > 1;
    const auto [seconds, seconds_alone] = medians_in_turn(
        kBudgetS, [&] { step(context); },
        [&] {
          if (compare) step(alone);
        });
    const double mean_context = static_cast<double>(position) + static_cast<double>(rows_each) / 2;
    result.push_back(
        {.name = phase + ", " + std::to_string(sequences) + " x " + std::to_string(rows_each) + " rows",
         .tokens_per_s = static_cast<double>(sequences * rows_each) / seconds,
         .fraction_of_floor =
             floor_seconds(model.config(), sequences, rows_each, mean_context, ceilings) / seconds,
         .of_one_thread = compare ? std::optional(seconds_alone / seconds) : std::nullopt});
  };
  for (const int64_t sequences : {int64_t{1}, int64_t{8}, kMostSequences})
    measure("prefill", sequences, kPromptTokens / sequences, 0);
  for (const int64_t sequences : {int64_t{1}, int64_t{8}, kMostSequences})
    measure("decode", sequences, 1, kPromptTokens);
  return result;
}

}  // namespace nemo::bench
