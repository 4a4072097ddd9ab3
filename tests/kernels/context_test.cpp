#include "kernels/context.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "kernels/error.h"

namespace nemo::kernels {
namespace {

/// NEMO_ISA set for one scope.
class WithIsa {
 public:
  explicit WithIsa(const char* value) {
    if (const char* old = std::getenv("NEMO_ISA")) old_ = old;
    setenv("NEMO_ISA", value, 1);
  }
  ~WithIsa() { old_.empty() ? unsetenv("NEMO_ISA") : setenv("NEMO_ISA", old_.c_str(), 1); }

 private:
  std::string old_;
};

TEST(DetectIsa, EveryLowerOneCanBeChosen) {
  const Isa best = detect_isa();
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx}) {
    if (isa > best) continue;
    const WithIsa wish(std::string(isa_name(isa)).c_str());
    EXPECT_EQ(detect_isa(), isa);
  }
}

TEST(DetectIsa, RefusesUnknownNamesAsABadJob) {
  const WithIsa wish("avx1024");
  try {
    detect_isa();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadJob);
    EXPECT_NE(std::string(error.what()).find("avx1024"), std::string::npos);
  }
}

TEST(DetectIsa, EmptyMeansTheBest) {
  const Isa best = detect_isa();
  const WithIsa wish("");
  EXPECT_GE(detect_isa(), best);
}

}  // namespace
}  // namespace nemo::kernels
