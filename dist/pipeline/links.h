// Links: what the stages of one lane say to each other. Steps and hidden states go down, results come back
// up.
#pragma once

#include "dist/comm/communicator.h"
#include "dist/schedule/step_message.h"
#include "kernels/context.h"

namespace nemo::dist {

class Links {
 public:
  /// `stages`: the ranks of one lane, rank = stage. The residual stream travels in `context`'s dtype, in
  /// which it is exact.
  Links(Communicator& stages, const kernels::Context& context) : stages_(stages), context_(context) {}

  void send_step(const StepMessage& message);
  StepMessage receive_step();

  void send_hidden(kernels::TensorView<const float> stream);
  void receive_hidden(kernels::TensorView<float> stream);

  void send_result(const StepResult& result);
  /// The result of the oldest step not yet received. Throws Error if it is not `step`'s.
  StepResult receive_result(int64_t step);

 private:
  Communicator& stages_;
  const kernels::Context& context_;
};

}  // namespace nemo::dist
