// Small mixture-of-experts layers with made-up weights, the same on every rank: any block of experts can be
// built apart and holds what the whole layer holds there.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "lib/model/moe.h"

namespace nemo::test {

enum class Values : uint8_t {
  kOrdinary,
  /// Expert outputs are 1e20, 1 and -1e20 times the same vector and weights are equal, so that any other
  /// order of the combine's sum gives another result.
  kAdversarial,
};

struct MoeShape {
  std::string name;
  int64_t hidden = 24;
  int64_t experts = 8;
  int64_t top_k = 2;
  int64_t latent = 0;      ///< 0 = none
  int64_t shared = 0;      ///< width of the shared expert; 0 = none
  int64_t favourite = -1;  ///< every row chooses this expert
  Values values = Values::kOrdinary;
  int64_t intermediate = 20;
};

class RandomMoe {
 public:
  RandomMoe(MoeShape shape, kernels::DType dtype) : shape_(std::move(shape)), dtype_(dtype) {
    layer_config_.kind = LayerKind::kMoe;
    layer_config_.n_routed_experts = shape_.experts;
    layer_config_.num_experts_per_tok = shape_.top_k;
    layer_config_.moe_intermediate_size = shape_.intermediate;
    layer_config_.moe_latent_size = shape_.latent;
    layer_config_.shared_intermediate_size = shape_.shared;
    model_config_.hidden_size = shape_.hidden;
    model_config_.routed_scaling_factor = 2.5f;
    model_config_.layers = {layer_config_};
  }

  const MoeShape& shape() const { return shape_; }
  const ModelConfig& model_config() const { return model_config_; }
  const LayerConfig& layer_config() const { return layer_config_; }
  kernels::ExpertRange all_experts() const { return {0, shape_.experts}; }

  /// The layer with the routed experts of `block` only.
  MoeLayer layer(kernels::ExpertRange block) const {
    MoeLayer layer;
    layer.router = router();
    layer.correction_bias.assign(static_cast<size_t>(shape_.experts), 0.0f);
    if (shape_.favourite >= 0) layer.correction_bias[static_cast<size_t>(shape_.favourite)] = 100.0f;
    const int64_t width = shape_.latent > 0 ? shape_.latent : shape_.hidden;
    if (shape_.latent > 0) {
      layer.latent_in = Linear{matrix(2, shape_.latent, shape_.hidden), {}};
      layer.latent_out = Linear{matrix(3, shape_.hidden, shape_.latent), {}};
    }
    if (shape_.shared > 0)
      layer.shared = MlpLayer{{matrix(4, shape_.shared, shape_.hidden), {}},
                              {matrix(5, shape_.hidden, shape_.shared), {}}};
    layer.experts = block;
    for (int64_t expert = block.begin; expert < block.end; ++expert) {
      const uint32_t seed =
          shape_.values == Values::kAdversarial ? 10u : 10u + 2 * static_cast<uint32_t>(expert);
      layer.up.push_back(matrix(seed, shape_.intermediate, width));
      layer.down.push_back(matrix(seed + 1, width, shape_.intermediate, output_scale(expert)));
    }
    return layer;
  }

  /// Rows as a norm leaves them: exact in the dtype.
  std::vector<float> rows(int64_t count, uint32_t seed) const {
    std::vector<float> values = random_values(1000 + seed, count * shape_.hidden, 1.0f);
    for (float& value : values) value = kernels::round_to(dtype_, value);
    return values;
  }

 private:
  static std::vector<float> random_values(uint32_t seed, int64_t count, float scale) {
    std::mt19937 bits(seed * 2654435761u +
                      1);  // its own mapping to floats: distributions differ between libraries
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = scale * (static_cast<float>(bits() >> 8) * 0x1p-23f - 1.0f);
    return values;
  }

  kernels::PackedMatrix packed(kernels::DType dtype, int64_t n, int64_t k,
                               const std::vector<float>& values) const {
    kernels::PackedMatrix matrix(dtype, n, k);
    matrix.pack_rows(0, kernels::TensorView<const float>(values.data(), n, k));
    return matrix;
  }

  kernels::PackedMatrix matrix(uint32_t seed, int64_t n, int64_t k, float scale = 1.0f) const {
    return packed(dtype_, n, k, random_values(seed, n * k, 0.5f * scale));
  }

  /// Adversarial scores give equal weights: all are zero where every expert is chosen anyway, else so far
  /// from zero that the sigmoid is exactly 1 or next to nothing.
  kernels::PackedMatrix router() const {
    const float adversarial = shape_.top_k == shape_.experts ? 0.0f : 1000.0f;
    return packed(kernels::DType::kFloat32, shape_.experts, shape_.hidden,
                  random_values(1, shape_.experts * shape_.hidden,
                                shape_.values == Values::kAdversarial ? adversarial : 1.0f));
  }

  float output_scale(int64_t expert) const {
    if (shape_.values == Values::kOrdinary) return 1.0f;
    // Found by search: for 8, 13 and 16 experts on 1 to 4 ranks, adding one after the other in the order of
    // ranks gives another result than the tree, and so does one root a rank wherever a block is no subtree.
    constexpr float kScales[] = {1, 1, 1e20f, -1e20f, 1e20f, 1, 1, -1e20f, 1, 1, 1, 1, 1, 1, 1, 1};
    return kScales[expert % 16];
  }

  MoeShape shape_;
  kernels::DType dtype_;
  LayerConfig layer_config_;
  ModelConfig model_config_;
};

}  // namespace nemo::test
