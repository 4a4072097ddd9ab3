// Does a checkpoint hold exactly the tensors its model needs? Internal to lib/weights.
#pragma once

#include <map>
#include <string>

#include "lib/config/model_config.h"
#include "lib/weights/weight_source.h"

namespace nemo {

/// Tensors of a source by their logical names (lib/weights/tensor_names.h).
using TensorsByName = std::map<std::string, const TensorInfo*, std::less<>>;

/// Throws Error naming both if two tensors of the source have the same logical name.
TensorsByName index_logical_names(const WeightSource& source);

/// Throws Error for all that is missing (a quantized matrix needs its scales), misshapen or unknown at once:
/// up to five of each with their file, and their number. Then for the first tensor that is stored otherwise
/// than the config announces.
void check_checkpoint(const TensorsByName& tensors, const ModelConfig& config, const std::string& where);

}  // namespace nemo
