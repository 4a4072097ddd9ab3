#include "kernels/ops/logits.h"

#include <cmath>

#include "kernels/error.h"

namespace nemo::kernels {

void logit_stats(const Context& context, TensorView<const float> logits, std::span<LogitStats> stats) {
  NEMO_CHECK(static_cast<int64_t>(stats.size()) == logits.rows && logits.cols >= 1, "one result per row");
  context.threads.run(logits.rows, [&](int64_t i) {
    const float* row = logits.row(i);
    float best = -INFINITY;
    int32_t argmax = 0;
    for (int64_t j = 0; j < logits.cols; ++j) {
      if (row[j] > best) {
        best = row[j];
        argmax = static_cast<int32_t>(j);
      }
    }
    float sum = 0.0f;
    for (int64_t j = 0; j < logits.cols; ++j) sum += std::exp(row[j] - best);
    stats[static_cast<size_t>(i)] = {best, argmax,
                                     std::isinf(best) && !std::isnan(sum) ? best : best + std::log(sum)};
  });
}

}  // namespace nemo::kernels
