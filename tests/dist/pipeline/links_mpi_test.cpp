// Links: hidden states pass a whole lane unchanged, steps keep their order, and what does not fit is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "dist/pipeline/links.h"
#include "dist/plan/plan.h"
#include "kernels/error.h"

namespace nemo::dist {
namespace {

using kernels::DType;
using kernels::TensorView;

class LinksTest : public testing::Test {
 protected:
  Communicator stages = Communicator::world(std::chrono::seconds(60));
  const int stage = stages.rank();
  const int last = stages.size() - 1;
  kernels::ThreadPool threads{2};

  void TearDown() override {
    stages.flush("messages to be taken");
    const int64_t here = 1;
    stages.all_max({&here, 1}, "the other stages");
  }
};

/// Exact in bfloat16, down to signs of zero, denormals and infinities.
std::vector<float> rows_of(int64_t count, int64_t step) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    values[static_cast<size_t>(i)] = kernels::round_to(
        DType::kBFloat16, static_cast<float>(i * 7 - step) * 0.37f * (i % 2 == 0 ? 1e20f : 1e-20f));
  if (count > 2) {
    values[0] = -0.0f;
    values[1] = 1e-40f;
    values[1] = kernels::round_to(DType::kBFloat16, values[1]);
    values[2] = -INFINITY;
  }
  return values;
}

TEST_F(LinksTest, HiddenStatesPassALaneUnchanged) {
  for (const DType wire : {DType::kFloat32, DType::kBFloat16}) {
    const kernels::Context context{threads, kernels::detect_isa(), wire};
    Links links(stages, context);
    for (const int64_t num_rows : {3, 0, 1, 700}) {
      const std::vector<float> sent = rows_of(num_rows * 40, num_rows);
      std::vector<float> stream(sent.size(), -1.0f);
      const TensorView<float> view(stream.data(), num_rows, 40);
      if (stage == 0) {
        stream = sent;
      } else {
        links.receive_hidden(view);
      }
      EXPECT_TRUE(stream.empty() || std::memcmp(stream.data(), sent.data(), sent.size() * sizeof(float)) == 0)
          << num_rows << " rows";
      if (stage < last) links.send_hidden({stream.data(), num_rows, 40});
    }
  }
}

TEST_F(LinksTest, HiddenStatesTakeTheBytesOfThePlan) {
  ModelConfig model;
  model.hidden_size = 40;
  JobConfig job;
  job.dtype = ActivationType::kBFloat16;
  const int64_t per_row = wire_bytes_per_token(model, job, {.pipeline = 2}).per_stage_boundary;
  constexpr int64_t kTokenIdBytes = 4;  // travel in the step message
  const kernels::Context context{threads, kernels::detect_isa(), DType::kBFloat16};
  Links links(stages, context);
  std::vector<float> rows = rows_of(9 * 40, 1);
  if (stage > 0) links.receive_hidden({rows.data(), 9, 40});
  if (stage < last) links.send_hidden({rows.data(), 9, 40});
  EXPECT_EQ(stages.bytes_posted(Tag::kHidden), stage < last ? 9 * (per_row - kTokenIdBytes) : 0);
}

TEST_F(LinksTest, StepsRunAheadOfHiddenStatesAndResultsComeBackInOrder) {
  const kernels::Context context{threads, kernels::detect_isa(), DType::kFloat32};
  Links links(stages, context);
  if (last == 0) GTEST_SKIP() << "one stage sends nothing";
  constexpr int64_t kSteps = 20;
  for (int64_t step = 0; step < kSteps; ++step) {
    StepMessage message{.step = step, .segments = {}};
    message.segments.push_back({.slot = static_cast<int32_t>(step), .position = 3, .token_ids = {1, 2, 3}});
    if (stage > 0) {
      const StepMessage received = links.receive_step();
      EXPECT_EQ(received.step, step);
      EXPECT_EQ(received.num_rows(), 3);
      EXPECT_EQ(received.segments.at(0).slot, message.segments[0].slot);
    }
    if (stage < last) links.send_step(message);
    if (stage == last) links.send_result({.step = step, .segments = {}});
  }
  for (int64_t step = 0; stage == 0 && step < kSteps; ++step)
    EXPECT_EQ(links.receive_result(step).step, step);
}

TEST_F(LinksTest, AResultOfAnotherStepIsRefused) {
  const kernels::Context context{threads, kernels::detect_isa(), DType::kFloat32};
  Links links(stages, context);
  if (stage == last) links.send_result({.step = 7, .segments = {}});
  if (stage == 0) {
    EXPECT_THROW(links.receive_result(6), Error);
  }
}

TEST_F(LinksTest, HiddenStatesOfAnotherSizeAreRefused) {
  const kernels::Context context{threads, kernels::detect_isa(), DType::kBFloat16};
  Links links(stages, context);
  std::vector<float> rows(12, 1.0f);
  if (stage < last) links.send_hidden({rows.data(), 3, 4});
  if (stage > 0) {
    EXPECT_THROW(links.receive_hidden({rows.data(), 2, 4}), Error);
  }
}

}  // namespace
}  // namespace nemo::dist
