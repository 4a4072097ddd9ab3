#include "lib/sampling/likeliest.h"

#include <algorithm>
#include <cmath>

namespace nemo {
namespace {

void keep_first(std::vector<RankedToken>& tokens, size_t count) {
  std::nth_element(tokens.begin(), tokens.begin() + static_cast<int64_t>(count) - 1, tokens.end(),
                   ranks_before);
  tokens.resize(count);
}

}  // namespace

std::vector<RankedToken> likeliest(std::span<const float> logits, int64_t count) {
  const size_t wanted = std::min(static_cast<size_t>(std::max<int64_t>(count, 0)), logits.size());
  if (wanted == 0) return {};
  // A buffer of at least twice what is wanted is cut down each time it is full: linear in all, and after the
  // first cut nearly every logit fails the comparison with the last one kept. An equal logit fails too: its
  // id is higher.
  const size_t capacity = std::max<size_t>(2 * wanted, 256);
  std::vector<RankedToken> kept;
  kept.reserve(std::min(capacity, logits.size()));
  bool was_cut = false;
  float last_kept = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = logits[i];
    if (was_cut ? !(logit > last_kept) : std::isnan(logit)) continue;
    kept.push_back({logit, static_cast<int32_t>(i)});
    if (kept.size() < capacity) continue;
    keep_first(kept, wanted);
    last_kept = kept.back().logit;  // where nth_element has put the last of the wanted
    was_cut = true;
  }
  if (kept.size() > wanted) keep_first(kept, wanted);
  std::sort(kept.begin(), kept.end(), ranks_before);
  return kept;
}

int32_t likeliest_token(std::span<const float> logits) {
  size_t best = 0;
  while (best < logits.size() && std::isnan(logits[best])) ++best;
  if (best == logits.size()) return 0;
  for (size_t i = best + 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<int32_t>(best);
}

}  // namespace nemo
