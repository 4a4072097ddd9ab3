// A model's config.json cut down to some of its layers. Internal to lib/weights/synthetic.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "lib/config/model_config.h"

namespace nemo {

/// "0-3,7" of a model with `num_layers` layers, rising; "" is all of them. Throws Error(kBadJob) for anything
/// else.
std::vector<int64_t> parse_layer_choice(std::string_view text, int64_t num_layers);

/// `document`, a config.json that was read as `whole`, with nothing but the layers of `choice`: every
/// spelling of the layout, Puzzle's blocks, listed MLP widths and the number of layers are cut alike. The
/// multi-token-prediction head, announcements of quantization and references to other files are left out.
nlohmann::json slice_config(const nlohmann::json& document, const ModelConfig& whole,
                            const std::vector<int64_t>& choice);

}  // namespace nemo
