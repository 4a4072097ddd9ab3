// OutputStage: what the last stage of a lane does after its layers: logits of the rows that need them, draws
// and scores.
#pragma once

#include <optional>
#include <vector>

#include "dist/pipeline/stage.h"
#include "dist/schedule/step_message.h"
#include "lib/sampling/sampler.h"

namespace nemo::dist {

class OutputStage {
 public:
  /// `stage` must outlive this.
  OutputStage(Stage& stage, int64_t num_slots) : stage_(stage), samplers_(static_cast<size_t>(num_slots)) {}

  /// The step's result from its final residual stream [rows, H]. Logits exist for a block of rows at a time,
  /// never for rows x vocabulary at once.
  StepResult finish(const StepMessage& message, kernels::TensorView<const float> stream);

 private:
  /// A row of the stream whose logits are needed.
  struct WantedRow {
    int64_t row = 0;
    const StepSegment* segment = nullptr;
    SegmentResult* result = nullptr;
    int32_t target = -1;     ///< score this token; -1 = draw the next one
    int64_t target_idx = 0;  ///< its place in the result
  };
  std::vector<WantedRow> wanted_rows(const StepMessage& message, StepResult& result) const;
  Sampler start(const StepSegment& segment) const;
  void observe(const StepMessage& message);
  void finish_row(const WantedRow& wanted, std::span<float> logits, const kernels::LogitStats& stats) const;

  Stage& stage_;
  std::vector<std::optional<Sampler>> samplers_;  ///< by slot
};

}  // namespace nemo::dist
