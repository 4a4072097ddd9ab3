// The likeliest tokens of a row of logits, without sorting the row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace nemo {

struct RankedToken {
  float logit = 0;
  int32_t token_id = 0;
};

/// Whether `a` ranks before `b`: the larger logit, among equals the lower id.
inline bool ranks_before(const RankedToken& a, const RankedToken& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token_id < b.token_id);
}

/// The `count` likeliest tokens in rank order; fewer if fewer logits are not NaN. O(vocab_size + count log
/// count).
std::vector<RankedToken> likeliest(std::span<const float> logits, int64_t count);

/// The first token in rank order; token 0 if all logits are NaN.
int32_t likeliest_token(std::span<const float> logits);

}  // namespace nemo
