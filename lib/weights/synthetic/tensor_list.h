// Which random tensors make a checkpoint. Internal to lib/weights/synthetic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/config/model_config.h"
#include "lib/weights/synthetic/random_tensor.h"

namespace nemo {

struct SyntheticTensors {
  std::vector<RandomTensor> tensors;       ///< in the order of layers
  std::vector<std::string> not_quantized;  ///< modules that an announcement has to exclude
};

/// Every tensor of `config` under its published name, with values such that activations stay of order 1.
/// `quantization` is for the linear layers that NVIDIA's releases quantize: all but attention, router and
/// lm_head; one whose columns are no multiple of 16 stays BF16 instead of NVFP4. `layers[i]` is the number by
/// which layer i's random numbers go: its place in the whole model, so that a slice has the weights of the
/// whole.
SyntheticTensors synthetic_tensors(const ModelConfig& config, const std::vector<int64_t>& layers,
                                   StoredAs quantization);

}  // namespace nemo
