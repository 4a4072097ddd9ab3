// Reads the layer layout and every layer's own sizes out of config.json. Internal to lib/config.
#pragma once

#include "lib/config/config_reader.h"
#include "lib/config/model_config.h"

namespace nemo {

/// Fills `config.layers`, `config.mtp_layers`, `config.num_nextn_predict_layers` and unknown keys of
/// block_configs.
void read_layers(const ConfigReader& reader, ModelConfig& config);

}  // namespace nemo
