// Weights of tokens: their probabilities but for a common factor, in double, so that a hundred thousand
// unlikely tokens keep their share of a sum.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace nemo {

/// weights[i] = exp((logits[i] - max) / temperature), the difference as a float: 1 for the largest logit,
/// which is `max` and finite; 0 for NaN and for weights below 1e-304. temperature > 0. The relative error is
/// below 1e-10.
std::vector<double> weigh(std::span<const float> logits, float max, double temperature);

/// Zeroes all but the smallest set of likeliest tokens whose weight is at least `top_p` of the whole; equal
/// logits rank by the lower index. `weights` are those of `logits`.
void keep_nucleus(std::span<double> weights, std::span<const float> logits, double top_p);

/// The index at which the running sum of the weights first exceeds the part `uniform`, in (0, 1), of the
/// whole. Never an index without weight; one of them must have some.
size_t draw_index(std::span<const double> weights, double uniform);

}  // namespace nemo
