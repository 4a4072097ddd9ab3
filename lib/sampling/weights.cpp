#include "lib/sampling/weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "lib/sampling/likeliest.h"

namespace nemo {
namespace {

// exp(x) for -700 <= x <= 0, where all results are normal numbers. Without branches and calls, so that the
// compiler makes vectors of it: the library's exp would take most of the time of a draw from 131072 tokens.
inline double exp_of(double x) {
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 0x1.62e42fefap-1, kLn2Low = 0x1.cf79abc9e3b3ap-40;
  constexpr double kRounder = 0x1.8p52;  // added, it leaves the nearest integer in the low bits
  const double shifted = x * kLog2E + kRounder;
  const double n = shifted - kRounder;
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2) / 2
  double series = 1.0 / 362880;                       // Taylor's, to r^9: what is left out is below 1e-11
  series = series * r + 1.0 / 40320;
  series = series * r + 1.0 / 5040;
  series = series * r + 1.0 / 720;
  series = series * r + 1.0 / 120;
  series = series * r + 1.0 / 24;
  series = series * r + 1.0 / 6;
  series = series * r + 0.5;
  series = series * r + 1;
  series = series * r + 1;
  const uint64_t scaled =
      std::bit_cast<uint64_t>(series) + (std::bit_cast<uint64_t>(shifted) << 52);  // times 2^n
  return std::bit_cast<double>(scaled);
}

// Sums are made block by block and within a block in four strands: one fixed order, but no chain of a hundred
// thousand additions that wait for each other.
constexpr size_t kBlock = 256;

double block_sum(std::span<const double> block) {
  std::array<double, 4> strands{};
  size_t i = 0;
  for (; i + 4 <= block.size(); i += 4) {
    for (size_t s = 0; s < 4; ++s) strands[s] += block[i + s];
  }
  for (; i < block.size(); ++i) strands[0] += block[i];
  return (strands[0] + strands[1]) + (strands[2] + strands[3]);
}

std::vector<double> block_sums(std::span<const double> weights) {
  std::vector<double> sums;
  sums.reserve(weights.size() / kBlock + 1);
  for (size_t begin = 0; begin < weights.size(); begin += kBlock) {
    sums.push_back(block_sum(weights.subspan(begin, std::min(kBlock, weights.size() - begin))));
  }
  return sums;
}

double total_of(std::span<const double> values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}

// The first index at which the running sum, begun at `sum`, exceeds `target`. Rounding may leave the whole
// sum at or below it: then the last index with a weight. `sum` becomes the sum before that index.
size_t invert(std::span<const double> weights, double target, double& sum) {
  size_t last = 0;
  double before_last = sum;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    last = i;
    before_last = sum;
    sum += weights[i];
    if (sum > target) break;
  }
  sum = before_last;
  return last;
}

// Bins of weights in falling order: 64 for each power of two, told by the leading bits; the last takes all
// the rest.
constexpr size_t kNumBins = 4096;

size_t bin_of(double weight) {
  const uint64_t below_one = std::bit_cast<uint64_t>(1.0) - std::bit_cast<uint64_t>(weight);
  return std::min<size_t>(below_one >> 46, kNumBins - 1);
}

// Zeroes the tokens of `bin` behind those with which `sum` reaches `mass`.
void cut_bin(std::span<double> weights, std::span<const float> logits, size_t bin, double sum, double mass) {
  std::vector<RankedToken> tokens;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (bin_of(weights[i]) == bin && weights[i] > 0) tokens.push_back({logits[i], static_cast<int32_t>(i)});
  }
  std::sort(tokens.begin(), tokens.end(), ranks_before);
  for (const RankedToken& token : tokens) {
    double& weight = weights[static_cast<size_t>(token.token_id)];
    if (sum >= mass) {
      weight = 0;
    } else {
      sum += weight;
    }
  }
}

}  // namespace

// What is too low, infinite or NaN is told by comparing bits as integers: a comparison of floats would be a
// branch, because it may trap.
std::vector<double> weigh(std::span<const float> logits, float max, double temperature) {
  // At least 1, so that the likeliest keeps its weight at any temperature.
  const int32_t lowest = std::max(1, std::bit_cast<int32_t>(static_cast<float>(700 * temperature)));
  std::vector<double> weights(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto difference = std::bit_cast<int32_t>(logits[i] - max);
    const int32_t is_drawable = (difference & 0x7fffffff) < lowest ? 1 : 0;
    const auto exponent = static_cast<double>(std::bit_cast<float>(difference & -is_drawable)) / temperature;
    weights[i] = exp_of(exponent) * is_drawable;
  }
  return weights;
}

// Ranking everything would cost more than all the rest of a draw. Only the bin in which the mass is reached
// is sorted.
void keep_nucleus(std::span<double> weights, std::span<const float> logits, double top_p) {
  const double mass = top_p * total_of(block_sums(weights));
  std::vector<double> bins(kNumBins);
  for (const double weight : weights) bins[bin_of(weight)] += weight;
  double sum = 0;
  size_t last_bin = 0;
  while (last_bin + 1 < kNumBins && sum + bins[last_bin] < mass) sum += bins[last_bin++];
  for (double& weight : weights) weight = bin_of(weight) > last_bin ? 0 : weight;
  cut_bin(weights, logits, last_bin, sum, mass);
}

size_t draw_index(std::span<const double> weights, double uniform) {
  const std::vector<double> sums = block_sums(weights);
  const double target = uniform * total_of(sums);
  double sum = 0;
  const size_t begin = invert(sums, target, sum) * kBlock;
  return begin + invert(weights.subspan(begin, std::min(kBlock, weights.size() - begin)), target, sum);
}

}  // namespace nemo
