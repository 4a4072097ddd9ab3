#include "lib/config/sampling_limits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace nemo {
namespace {

std::string fault_of(const std::function<void(SamplingParams&)>& change) {
  SamplingParams sampling;
  change(sampling);
  return invalid_sampling(sampling).value_or("");
}

TEST(SamplingLimits, DefaultsAndExtremesAreAllowed) {
  EXPECT_EQ(invalid_sampling(SamplingParams{}), std::nullopt);
  SamplingParams sampling;
  sampling.temperature = 0;
  sampling.top_p = 1e-9;
  sampling.min_p = 1;
  sampling.seed = UINT64_MAX;
  sampling.min_tokens = sampling.max_tokens;
  sampling.stop = {"x"};
  sampling.logprobs = 1024;
  EXPECT_EQ(invalid_sampling(sampling), std::nullopt);
}

TEST(SamplingLimits, NanIsNoNumberToSampleBy) {
  EXPECT_EQ(fault_of([](auto& s) { s.temperature = std::nan(""); }),
            "temperature must be at least 0 and at most 100, not nan");
  EXPECT_EQ(fault_of([](auto& s) { s.top_p = std::nan(""); }),
            "top_p must be greater than 0 and at most 1, not nan");
  EXPECT_EQ(fault_of([](auto& s) { s.frequency_penalty = INFINITY; }),
            "frequency_penalty must be at least -100 and at most 100, not inf");
}

TEST(SamplingLimits, StopsAreFewShortAndNotEmpty) {
  EXPECT_EQ(fault_of([](auto& s) {
              s.stop = {"a", ""};
            }),
            "stop has an empty string, which would stop everything at once");
  EXPECT_EQ(fault_of([](auto& s) { s.stop.assign(257, "a"); }),
            "stop has 257 strings; at most 256 are possible");
  EXPECT_EQ(fault_of([](auto& s) { s.stop = {std::string(5000, 'a')}; }),
            "stop has a string of 5000 bytes; at most 4096 are possible");
  EXPECT_EQ(fault_of([](auto& s) { s.stop_token_ids = {-1}; }), "stop_token_ids has a negative id, -1");
  EXPECT_EQ(fault_of([](auto& s) { s.stop_token_ids.assign(300, 1); }),
            "stop_token_ids has 300 ids; at most 256 are possible");
}

TEST(SamplingLimits, TheFaultNamesItsKey) {
  SamplingParams sampling;
  sampling.n = 0;
  const auto fault = find_sampling_fault(sampling);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->key, "n");
  EXPECT_EQ(fault->what, "must be at least 1 and at most 65536, not 0");
}

}  // namespace
}  // namespace nemo
