#include "tests/bench/shares.h"

namespace nemo::bench {

namespace {

struct Calls {
  const char* name;  ///< of the case
  double count;
};

/// A Mamba-2 mixer, 128 rows of a prompt. Its second product is 4096 x 8192: two of 4096 x 4096.
const std::vector<Calls> kScan = {{"selective scan, 1 sequences x 128 rows", 1},
                                  {"convolution and silu, 128 rows of 10240", 1},
                                  {"gated norm, 128 rows of 8192", 1}};
const std::vector<Calls> kMixerProducts = {{"matmul bf16 18560x4096, 128 rows", 1},
                                           {"matmul bf16 4096x4096, 128 rows", 2}};

/// A step of 16 sequences through 40 Mamba-2, 8 attention and 40 expert layers and the head. 16 tokens meet
/// 512 (1 - (1 - 22/512)^16) = 258 of 512 experts, most of them alone. All other weights are counted as
/// matrices of 4096 x 4096: the mixers' (18560 + 8192) / 4096 and (4096 + 512 + 4096) / 4096, the shared
/// expert's, router's and latent projections' (2 * 5376 + 512 + 2 * 1024) / 4096, the head's 131072 / 4096.
constexpr double kSquareProducts = 40 * 6.53 + 8 * 2.125 + 40 * 3.25 + 32;
const std::vector<Calls> kSmallOps = {{"norm, 16 rows of 4096", 89},
                                      {"router, top 22 of 512, 16 rows", 40},
                                      {"logit statistics and draw, 16 x 131072", 1}};
const std::vector<Calls> kDecodeRest = {{"matmul bf16 4096x4096, 16 rows", kSquareProducts},
                                        {"64 experts 2688x1024, 1 rows each", 2 * 40 * 258.0 / 64},
                                        {"selective scan, 16 sequences x 1 rows", 40},
                                        {"attention, 16 x 1 rows, 4096 keys", 8}};

}  // namespace

std::vector<Share> shares_of(const std::function<double(const std::string&)>& microseconds) {
  const auto sum = [&](const std::vector<Calls>& all) {
    double total = 0;
    for (const Calls& calls : all) total += calls.count * microseconds(calls.name);
    return total;
  };
  const auto share = [&](const char* name, const std::vector<Calls>& part, const std::vector<Calls>& rest,
                         double goal) {
    const double of_part = sum(part);
    return Share{name, of_part / (of_part + sum(rest)), goal};
  };
  return {
      share("recurrence, convolution and gating of a Mamba-2 mixer, prefill", kScan, kMixerProducts, 0.08),
      share("router, norms and sampling of a step of 16 sequences", kSmallOps, kDecodeRest, 0.03)};
}

}  // namespace nemo::bench
