#include "lib/model/forward.h"

namespace nemo {

void forward_lm_head(const kernels::Context& context, const ModelConfig& config, Workspace& workspace,
                     const LmHead& head, kernels::TensorView<const float> stream,
                     kernels::TensorView<float> logits) {
  Workspace::Frame frame(workspace);
  auto normed = workspace.tensor<float>(stream.rows, stream.cols);
  kernels::rms_norm(context, stream, head.norm, config.layer_norm_epsilon, normed);
  kernels::matmul(context, normed, head.weight, logits);
}

}  // namespace nemo
