// What sampling and scoring need of a row of logits. Row-pure: one order of summation fixed by the width.
#pragma once

#include <span>

#include "kernels/context.h"

namespace nemo::kernels {

struct LogitStats {
  float max = 0;
  int32_t argmax = 0;     ///< lowest id among equals; NaN never wins
  float log_sum_exp = 0;  ///< log(sum(exp(logits))), so logprob(i) = logits[i] - log_sum_exp
};

/// stats[i] of logits[i, :]. logits [rows, vocab_size], vocab_size >= 1.
void logit_stats(const Context& context, TensorView<const float> logits, std::span<LogitStats> stats);

}  // namespace nemo::kernels
