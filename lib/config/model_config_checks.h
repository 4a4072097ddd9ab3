// What must hold between the values of a ModelConfig. Internal to lib/config.
#pragma once

#include "lib/config/config_reader.h"
#include "lib/config/model_config.h"

namespace nemo {

/// Throws Error naming file, key and reason for the first rule that does not hold.
void check_model_config(const ConfigReader& reader, const ModelConfig& config);

}  // namespace nemo
