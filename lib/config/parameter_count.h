// How many parameters a model has, summed over the tensor table of lib/weights/tensor_names.h, so that the
// numbers of --plan and the shapes we load cannot disagree.
#pragma once

#include <cstdint>

#include "lib/config/model_config.h"

namespace nemo {

/// Parameters of one layer, its norm included.
struct LayerParameterCount {
  int64_t total = 0;
  int64_t active = 0;  ///< what one token uses: num_experts_per_tok routed experts instead of all
  int64_t routed = 0;  ///< of `total`: in routed experts, which expert ranks divide among them
};

/// `layer` is one of config.layers or config.mtp_layers (there without the head's own norms and projection).
LayerParameterCount layer_parameters(const ModelConfig& config, const LayerConfig& layer);

/// The input embedding alone (vocab_size * hidden_size); the untied output head has as many.
int64_t embedding_parameters(const ModelConfig& config);

/// All layers, final norm, embedding and (unless tied) head; without the MTP head.
int64_t total_parameters(const ModelConfig& config);

/// The multi-token-prediction head; 0 if there is none.
int64_t mtp_parameters(const ModelConfig& config);

/// What one token uses, output head included, input embedding excluded: the "A" in 30B-A3B.
int64_t active_parameters(const ModelConfig& config);

/// The same with the input embedding counted too.
int64_t active_parameters_with_embedding(const ModelConfig& config);

}  // namespace nemo
