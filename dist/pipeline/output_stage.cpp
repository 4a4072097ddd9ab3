#include "dist/pipeline/output_stage.h"

#include <algorithm>

#include "kernels/error.h"

namespace nemo::dist {

using kernels::TensorView;

namespace {
/// Rows whose logits exist at once.
constexpr int64_t kLogitRows = 64;
}  // namespace

std::vector<OutputStage::WantedRow> OutputStage::wanted_rows(const StepMessage& message,
                                                             StepResult& result) const {
  result.segments.reserve(message.segments.size());  // WantedRow points into it
  std::vector<WantedRow> wanted;
  int64_t row = 0;
  for (const StepSegment& segment : message.segments) {
    const auto num_targets =
        std::ranges::count_if(segment.targets, [](int32_t target) { return target >= 0; });
    if (segment.sample || num_targets > 0) {
      SegmentResult& answer = result.segments.emplace_back();
      answer.slot = segment.slot;
      answer.target_logprobs.resize(static_cast<size_t>(num_targets));
      answer.target_is_argmax.resize(static_cast<size_t>(num_targets));
      int64_t target_idx = 0;
      for (size_t i = 0; i < segment.targets.size(); ++i) {
        if (segment.targets[i] >= 0)
          wanted.push_back(
              {row + static_cast<int64_t>(i), &segment, &answer, segment.targets[i], target_idx++});
      }
      if (segment.sample)
        wanted.push_back(
            {row + static_cast<int64_t>(segment.token_ids.size()) - 1, &segment, &answer, -1, 0});
    }
    row += static_cast<int64_t>(segment.token_ids.size());
  }
  return wanted;
}

Sampler OutputStage::start(const StepSegment& segment) const {
  if (!segment.fork_of) return Sampler(*segment.start);
  const std::optional<Sampler>& source = samplers_.at(static_cast<size_t>(*segment.fork_of));
  NEMO_CHECK(source.has_value(), "slot " + std::to_string(*segment.fork_of) + " is forked but never started");
  return source->fork(*segment.start);
}

void OutputStage::observe(const StepMessage& message) {
  for (const StepSegment& segment : message.segments) {
    std::optional<Sampler>& sampler = samplers_.at(static_cast<size_t>(segment.slot));
    if (segment.start) sampler = start(segment);
    if (sampler) sampler->observe(segment.position, segment.token_ids);
  }
}

void OutputStage::finish_row(const WantedRow& wanted, std::span<float> logits,
                             const kernels::LogitStats& stats) const {
  if (wanted.target >= 0) {
    wanted.result->target_logprobs[static_cast<size_t>(wanted.target_idx)] =
        logprob_of(logits[static_cast<size_t>(wanted.target)], stats);
    wanted.result->target_is_argmax[static_cast<size_t>(wanted.target_idx)] = wanted.target == stats.argmax;
    return;
  }
  const std::optional<Sampler>& sampler = samplers_[static_cast<size_t>(wanted.segment->slot)];
  NEMO_CHECK(sampler.has_value(),
             "slot " + std::to_string(wanted.segment->slot) + " samples but never started");
  const int64_t position = wanted.segment->position + static_cast<int64_t>(wanted.segment->token_ids.size());
  wanted.result->sampled = sampler->sample(logits, stats, position);
}

StepResult OutputStage::finish(const StepMessage& message, TensorView<const float> stream) {
  observe(message);
  StepResult result{.step = message.step, .segments = {}};
  const std::vector<WantedRow> wanted = wanted_rows(message, result);
  const auto num_wanted = static_cast<int64_t>(wanted.size());
  Workspace& workspace = stage_.workspace();
  for (int64_t begin = 0; begin < num_wanted; begin += kLogitRows) {
    Workspace::Frame frame(workspace);
    const int64_t count = std::min(kLogitRows, num_wanted - begin);
    auto rows = workspace.tensor<float>(count, stream.cols);
    auto logits = workspace.tensor<float>(count, stage_.config().vocab_size);
    auto stats = workspace.array<kernels::LogitStats>(count);
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(stream.row(wanted[static_cast<size_t>(begin + i)].row), stream.cols, rows.row(i));
    stage_.logits(rows, logits);
    kernels::logit_stats(stage_.context(), logits, stats);
    stage_.context().threads.run(count, [&](int64_t i) {
      finish_row(wanted[static_cast<size_t>(begin + i)], {logits.row(i), static_cast<size_t>(logits.cols)},
                 stats[static_cast<size_t>(i)]);
    });
  }
  return result;
}

}  // namespace nemo::dist
