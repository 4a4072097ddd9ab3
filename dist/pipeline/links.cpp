#include "dist/pipeline/links.h"

#include <cstring>

#include "dist/comm/wire_rows.h"
#include "kernels/error.h"
#include "kernels/ops/elementwise.h"

namespace nemo::dist {

using kernels::TensorView;

void Links::send_step(const StepMessage& message) {
  stages_.post(stages_.rank() + 1, Tag::kStep, to_bytes(message));
}

StepMessage Links::receive_step() {
  return step_message_from_bytes(stages_.receive(stages_.rank() - 1, Tag::kStep, "the next step"));
}

void Links::send_hidden(TensorView<const float> stream) {
  const int64_t count = stream.rows * stream.cols;
  std::string bytes(static_cast<size_t>(count * kernels::dtype_bytes(context_.dtype)), '\0');
  if (context_.dtype == kernels::DType::kFloat32) {
    if (count > 0) std::memcpy(bytes.data(), stream.data, bytes.size());
  } else {
    kernels::to_bf16(context_, stream,
                     {reinterpret_cast<kernels::bf16*>(bytes.data()), stream.rows, stream.cols});
  }
  stages_.post(stages_.rank() + 1, Tag::kHidden, std::move(bytes));
}

void Links::receive_hidden(TensorView<float> stream) {
  const int64_t count = stream.rows * stream.cols;
  const std::string bytes = stages_.receive(stages_.rank() - 1, Tag::kHidden, "hidden states");
  if (static_cast<int64_t>(bytes.size()) != count * kernels::dtype_bytes(context_.dtype))
    throw Error("hidden states",
                std::to_string(bytes.size()) + " bytes for " + std::to_string(stream.rows) + " rows",
                "all ranks must run the same build of nemo-dist");
  widen_wire_rows(context_, bytes, stream);
}

void Links::send_result(const StepResult& result) {
  stages_.post(0, Tag::kResult, to_bytes(result));
}

StepResult Links::receive_result(int64_t step) {
  StepResult result =
      step_result_from_bytes(stages_.receive(stages_.size() - 1, Tag::kResult, "sampled tokens"));
  NEMO_CHECK(result.step == step,
             "result of step " + std::to_string(result.step) + " where " + std::to_string(step) + " was due");
  return result;
}

}  // namespace nemo::dist
