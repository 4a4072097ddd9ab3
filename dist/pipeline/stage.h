// Stage: the layers one rank runs, their weights and decode state. It obeys StepMessages and knows nothing of
// requests.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dist/moe/token_dispatcher.h"
#include "dist/pipeline/process_grid.h"
#include "dist/plan/plan.h"
#include "dist/schedule/step_message.h"
#include "lib/model/forward.h"

namespace nemo::dist {

class Stage {
 public:
  /// Loads this rank's share of the checkpoint and allocates its state. The references must outlive the
  /// stage.
  Stage(const ModelConfig& config, const Plan& plan, ProcessGrid& grid, const Checkpoint& checkpoint,
        const kernels::Context& context);

  /// The residual stream [rows of the message, H], to be filled by embed or from the previous stage. Valid
  /// until the next call.
  kernels::TensorView<float> stream_for(const StepMessage& message);

  /// First stage: stream = embedding of the message's tokens.
  void embed(const StepMessage& message, kernels::TensorView<float> stream);

  /// Runs the stage's layers in place. Every lane of the stage must call this for the same step. Between
  /// layers, what other stages and lanes send moves on.
  void forward(const StepMessage& message, kernels::TensorView<float> stream);

  /// Last stage: logits [R, V] of gathered rows of the stream.
  void logits(kernels::TensorView<const float> rows, kernels::TensorView<float> logits);

  const ModelConfig& config() const { return config_; }
  const kernels::Context& context() const { return context_; }
  Workspace& workspace() { return workspace_; }
  const ExchangeCounters& exchange_counters() const { return dispatcher_.counters(); }

 private:
  const ModelConfig& config_;
  const kernels::Context& context_;
  const LayerRange range_;
  Communicator& stages_;
  TokenDispatcher dispatcher_;
  const int num_lanes_;
  std::vector<ExpertSplit> splits_;  ///< by layer of the stage; empty for other kinds
  std::vector<Layer> layers_;
  std::optional<kernels::EmbeddingTable> embedding_;
  std::optional<LmHead> head_;
  StateCache state_;
  Workspace workspace_;
  std::vector<float> stream_;
};

}  // namespace nemo::dist
