#include "dist/pipeline/stage.h"

#include <algorithm>

#include "lib/model/kv_scales.h"

namespace nemo::dist {

using kernels::TensorView;

Stage::Stage(const ModelConfig& config, const Plan& plan, ProcessGrid& grid, const Checkpoint& checkpoint,
             const kernels::Context& context)
    : config_(config),
      context_(context),
      range_(plan.stages[static_cast<size_t>(grid.position.stage)].layers),
      stages_(grid.stages),
      dispatcher_(grid.lanes),
      num_lanes_(grid.lanes.size()),
      state_(config, {.layer_begin = range_.begin,
                      .layer_end = range_.end,
                      .num_slots = plan.max_sequences,
                      .num_pages = plan.kv_pages,
                      .kv_format = plan.kv_format}) {
  for (int64_t i = range_.begin; i < range_.end; ++i) {
    const LayerConfig& layer = config.layers[static_cast<size_t>(i)];
    kernels::ExpertRange mine;
    ExpertSplit split;
    if (layer.kind == LayerKind::kMoe) {
      const auto& blocks = plan.experts[static_cast<size_t>(i)];
      mine = blocks[static_cast<size_t>(grid.position.lane)];
      split = ExpertSplit::make(blocks, layer.n_routed_experts);
    }
    splits_.push_back(std::move(split));
    layers_.push_back(load_layer(checkpoint, config, i, mine, context.dtype));
  }
  load_kv_scales(checkpoint, config, state_);
  if (grid.is_first_stage()) embedding_ = load_embedding(checkpoint, config, context.dtype);
  if (grid.is_last_stage()) head_ = load_lm_head(checkpoint, config, context.dtype);
}

TensorView<float> Stage::stream_for(const StepMessage& message) {
  const int64_t rows = message.num_rows();
  stream_.resize(static_cast<size_t>(rows * config_.hidden_size));
  return {stream_.data(), rows, config_.hidden_size};
}

void Stage::embed(const StepMessage& message, TensorView<float> stream) {
  Workspace::Frame frame(workspace_);
  auto token_ids = workspace_.array<int32_t>(stream.rows);
  auto to = token_ids.begin();
  for (const StepSegment& segment : message.segments) to = std::ranges::copy(segment.token_ids, to).out;
  kernels::embed(context_, token_ids, *embedding_, stream);
}

void Stage::forward(const StepMessage& message, TensorView<float> stream) {
  std::vector<kernels::Segment> segments;
  std::vector<kernels::PageTable> page_tables;
  int64_t row = 0;
  for (const StepSegment& segment : message.segments) {
    if (segment.fork_of) {
      state_.fork(*segment.fork_of, segment.slot, segment.position, segment.new_pages);
    } else {
      state_.prepare(segment.slot, segment.position, segment.new_pages);
    }
    const auto row_count = static_cast<int64_t>(segment.token_ids.size());
    segments.push_back(
        {.row_begin = row, .row_count = row_count, .slot = segment.slot, .position = segment.position});
    page_tables.push_back(state_.page_table(segment.slot));
    row += row_count;
  }
  const Step step{context_, config_, workspace_, segments, page_tables};
  for (int64_t i = range_.begin; i < range_.end; ++i) {
    const auto local_idx = static_cast<size_t>(i - range_.begin);
    forward_layer(step, i, layers_[local_idx], state_, stream,
                  [&](const LayerConfig& config, const MoeLayer& layer, TensorView<const float> x,
                      TensorView<float> y) {
                    if (num_lanes_ == 1) {
                      moe_mixer(step, config, layer, x, y);
                    } else {
                      distributed_moe(step, dispatcher_, splits_[local_idx], config, layer, x, y);
                    }
                  });
    if (num_lanes_ > 1) dispatcher_.progress();
    if (stages_.size() > 1) stages_.progress(Tag::kHidden);
  }
}

void Stage::logits(TensorView<const float> rows, TensorView<float> logits) {
  forward_lm_head(context_, config_, workspace_, *head_, rows, logits);
}

}  // namespace nemo::dist
