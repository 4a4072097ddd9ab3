#include "kernels/ops/logits.h"

#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/error.h"

namespace nemo::kernels {

void logit_stats(const Context& context, TensorView<const float> logits, std::span<LogitStats> stats) {
  NEMO_CHECK(static_cast<int64_t>(stats.size()) == logits.rows, "one result per row");
  NEMO_CHECK(logits.cols >= 1 && logits.cols <= std::numeric_limits<int32_t>::max(), "vocab_size");
  const auto logit_stats_row = row_kernels(context.isa).logit_stats;
  for_each_row(context, logits.rows, logits.cols, [&](int64_t i) {
    logit_stats_row(logits.row(i), logits.cols, &stats[static_cast<size_t>(i)]);
  });
}

}  // namespace nemo::kernels
