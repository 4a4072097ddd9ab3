// A rank reads its share of the weights and nothing else, once: of a pack exactly the bytes of its plan, of
// safetensors exactly the bytes of its tensors.
#include <gtest/gtest.h>

#include "dist/plan/memory.h"
#include "dist/plan/plan.h"
#include "lib/model/layer_weights.h"
#include "lib/weights/pack/pack_writer.h"
#include "lib/weights/tensor_names.h"
#include "lib/weights/weight_source.h"
#include "tests/dist/plan/plan_fixtures.h"
#include "tests/lib/config/testing.h"

namespace nemo::dist {
namespace {

/// What the rank of that stage and lane reads when it loads its weights.
int64_t bytes_read(const std::string& path, const ModelConfig& model, const Plan& plan, int64_t stage,
                   int64_t lane) {
  const Checkpoint checkpoint = Checkpoint::open(path, model);
  const LayerRange range = plan.stages[static_cast<size_t>(stage)].layers;
  for (int64_t i = range.begin; i < range.end; ++i) {
    const auto& blocks = plan.experts[static_cast<size_t>(i)];
    const kernels::ExpertRange mine =
        blocks.empty() ? kernels::ExpertRange{} : blocks[static_cast<size_t>(lane)];
    load_layer(checkpoint, model, i, mine, kernels::DType::kBFloat16);
  }
  if (stage == 0) load_embedding(checkpoint, model, kernels::DType::kBFloat16);
  if (stage + 1 == plan.layout.pipeline) load_lm_head(checkpoint, model, kernels::DType::kBFloat16);
  return static_cast<int64_t>(checkpoint.bytes_read());
}

/// Bytes in the file of a tensor and its scales, but for the input's, which are not read.
int64_t bytes_in_file(const WeightSource& source, const std::string& logical) {
  int64_t bytes = 0;
  for (const std::string& name : source.names()) {
    const std::string own = logical_tensor_name(name);
    const bool is_scale =
        logical.ends_with(".weight") && (own == scale_tensor_name(logical, ScaleKind::kWeight) ||
                                         own == scale_tensor_name(logical, ScaleKind::kWeight2));
    if (own == logical || is_scale) bytes += static_cast<int64_t>(source.find(name)->num_bytes);
  }
  return bytes;
}

int64_t share_of_files(const WeightSource& source, const ModelConfig& model, const Plan& plan, int64_t stage,
                       int64_t lane) {
  int64_t bytes = 0;
  const LayerRange range = plan.stages[static_cast<size_t>(stage)].layers;
  for (int64_t i = range.begin; i < range.end; ++i)
    for (const TensorSpec& spec : layer_tensors(model, i)) {
      if (spec.split != Split::kByExpert) {
        bytes += bytes_in_file(source, spec.name);
        continue;
      }
      const kernels::ExpertRange mine = plan.experts[static_cast<size_t>(i)][static_cast<size_t>(lane)];
      if (const int64_t stacked = bytes_in_file(source, spec.name); stacked > 0) {
        bytes += stacked / spec.shape[0] * (mine.end - mine.begin);
        continue;
      }
      for (int64_t expert = mine.begin; expert < mine.end; ++expert)
        bytes += bytes_in_file(source, expert_tensor_name(spec.name, expert));
    }
  for (const TensorSpec& spec : outer_tensors(model)) {
    const bool is_here = spec.split == Split::kFirstStage ? stage == 0 : stage + 1 == plan.layout.pipeline;
    if (is_here) bytes += bytes_in_file(source, spec.name);
  }
  return bytes;
}

class BytesRead : public testing::TestWithParam<const char*> {};

TEST_P(BytesRead, AreTheRanksShare) {
  const std::string folder = source_path(GetParam());
  TemporaryFolder temporary;
  const std::string pack = temporary / "model.h5";
  write_pack({.model_path = folder, .out_path = pack});
  const ModelConfig model = load_model_config(folder);
  const auto source = open_checkpoint(folder);
  for (const auto& [pipeline, expert] : {std::pair{1, 1}, {1, 3}, {2, 1}, {2, 2}, {3, 4}}) {
    if (pipeline > model.num_layers()) continue;
    const Plan plan = make_plan(model, job_with_layout(1, pipeline, expert), machine_of(pipeline * expert));
    for (int64_t stage = 0; stage < pipeline; ++stage)
      for (int64_t lane = 0; lane < expert; ++lane) {
        const std::string where = std::to_string(pipeline) + "x" + std::to_string(expert) + ", stage " +
                                  std::to_string(stage) + ", lane " + std::to_string(lane);
        EXPECT_EQ(bytes_read(pack, model, plan, stage, lane),
                  plan.stages[static_cast<size_t>(stage)].weight_bytes[static_cast<size_t>(lane)])
            << where;
        EXPECT_EQ(bytes_read(folder, model, plan, stage, lane),
                  share_of_files(*source, model, plan, stage, lane))
            << where;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, BytesRead,
                         testing::Values("configs/checkpoints/kjv-wordnet-7m", "tests/golden/models/latent",
                                         "tests/golden/models/puzzle",
                                         "tests/golden/quantized/latent-mixed"));

}  // namespace
}  // namespace nemo::dist
