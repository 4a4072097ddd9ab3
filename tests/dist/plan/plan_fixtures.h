// Models, jobs and machines for the planner's tests.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "dist/plan/plan.h"
#include "lib/config/model_config.h"

namespace nemo::dist {

inline LayerConfig layer_of(char letter) {
  LayerConfig layer;
  switch (letter) {
    case '*':
      layer.kind = LayerKind::kAttention;
      break;
    case '-':
      layer.kind = LayerKind::kMlp;
      layer.intermediate_size = 256;
      break;
    case 'E':
      layer.kind = LayerKind::kMoe;
      layer.n_routed_experts = 64;
      layer.num_experts_per_tok = 4;
      layer.moe_intermediate_size = 64;
      layer.moe_latent_size = 64;
      layer.shared_intermediate_size = 128;
      break;
    default:
      layer.kind = LayerKind::kMamba;
  }
  return layer;
}

/// The shape of the trained checkpoint that comes with the program, with another pattern if given.
inline ModelConfig small_model(const std::string& pattern = "MEMEM*EMEM*EME") {
  ModelConfig model;
  model.name = "small";
  model.vocab_size = 3072;
  model.hidden_size = 192;
  model.num_attention_heads = 8;
  model.num_key_value_heads = 2;
  model.head_dim = 32;
  model.max_position_embeddings = 2048;
  model.mamba_num_heads = 16;
  model.mamba_head_dim = 32;
  model.n_groups = 2;
  model.ssm_state_size = 32;
  for (const char letter : pattern) model.layers.push_back(layer_of(letter));
  return model;
}

inline ModelConfig random_model(std::mt19937& random) {
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  std::string pattern;
  for (int64_t i = pick(1, 30); i > 0; --i) pattern += "ME*-"[pick(0, 3)];
  ModelConfig model = small_model(pattern);
  model.hidden_size = 32 * pick(1, 12);
  model.vocab_size = pick(100, 5000);
  model.tie_word_embeddings = pick(0, 1) == 1;
  for (LayerConfig& layer : model.layers) {
    if (layer.kind != LayerKind::kMoe) continue;
    layer.n_routed_experts = pick(4, 70);
    layer.num_experts_per_tok = pick(1, 4);
    layer.moe_intermediate_size = pick(10, 100);
    layer.moe_latent_size = pick(0, 1) * pick(8, 64);
    layer.shared_intermediate_size = pick(0, 1) * pick(8, 200);
  }
  return model;
}

inline ModelConfig published_model(const std::string& folder) {
  return load_model_config(std::string(NEMO_SOURCE_DIR) + "/configs/models/" + folder);
}

inline JobConfig plain_job() {
  JobConfig job;
  job.job_path = "job.yaml";
  return job;
}

inline JobConfig job_with_layout(int64_t replicas, int64_t pipeline, int64_t expert) {
  JobConfig job = plain_job();
  job.parallel.replicas = replicas;
  job.parallel.pipeline = pipeline;
  job.parallel.expert = expert;
  return job;
}

constexpr int64_t kGiB = int64_t{1} << 30;

inline Machine machine_of(int64_t num_ranks, int64_t memory_per_rank = kGiB, int64_t ranks_per_host = 1) {
  return {.num_ranks = num_ranks,
          .ranks_per_host = ranks_per_host,
          .memory_per_rank = memory_per_rank,
          .cores_per_rank = 4};
}

}  // namespace nemo::dist
