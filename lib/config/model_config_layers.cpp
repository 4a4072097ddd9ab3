#include "lib/config/model_config_layers.h"

#include <algorithm>
#include <array>
#include <optional>

#include "lib/config/json_text.h"
#include "lib/config/model_config_keys.h"

namespace nemo {
namespace {

using nlohmann::json;
using Layout = std::vector<LayerKind>;

constexpr IntRange kWidth = {1, 1 << 24};
constexpr IntRange kExperts = {1, 1 << 16};
constexpr IntRange kSharedExperts = {0, 1024};
constexpr IntRange kLatent = {0, 1 << 20};
constexpr size_t kMaxLayers = 4096;

struct LayerWord {
  std::string_view word;
  LayerKind kind;
};

constexpr std::array kLayerWords = {
    LayerWord{"mamba", LayerKind::kMamba},
    LayerWord{"linear_attention", LayerKind::kMamba},
    LayerWord{"attention", LayerKind::kAttention},
    LayerWord{"full_attention", LayerKind::kAttention},
    LayerWord{"mlp", LayerKind::kMlp},
    LayerWord{"moe", LayerKind::kMoe},
};

LayerKind kind_of_word(const ConfigReader& reader, const std::string& key, const json& value) {
  if (value.is_string()) {
    for (const auto& [word, kind] : kLayerWords) {
      if (value.get_ref<const std::string&>() == word) return kind;
    }
  }
  reader.fail(key, "is " + json_excerpt(value) + ", which is no kind of layer we know",
              "known: mamba, linear_attention, attention, full_attention, moe, mlp");
}

Layout layout_of_pattern(const ConfigReader& reader, const std::string& key, const std::string& pattern) {
  constexpr std::array kinds = {LayerKind::kMamba, LayerKind::kAttention, LayerKind::kMlp, LayerKind::kMoe};
  Layout layout;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const auto kind = std::find_if(kinds.begin(), kinds.end(), [&](LayerKind candidate) {
      return layer_letter(candidate) == pattern[i];
    });
    if (kind == kinds.end()) {
      reader.fail(key,
                  "has " + json_excerpt(json(pattern.substr(i, 1))) + " at position " + std::to_string(i),
                  "known: M (Mamba-2), * (attention), E (mixture of experts), - (MLP)");
    }
    layout.push_back(*kind);
  }
  return layout;
}

Layout layout_of_list(const ConfigReader& reader, const std::string& key, const json& list) {
  if (!list.is_array()) reader.fail(key, "must be a list of words, not " + json_excerpt(list), "");
  Layout layout;
  for (size_t i = 0; i < list.size(); ++i) {
    layout.push_back(kind_of_word(reader, key + "[" + std::to_string(i) + "]", list[i]));
  }
  return layout;
}

/// The kinds that block_configs name; an entry without block_type takes its kind from `given`.
Layout layout_of_blocks(const ConfigReader& reader, const std::string& key, const json& blocks,
                        const Layout& given) {
  if (!blocks.is_array()) reader.fail(key, "must be a list of objects, not " + json_excerpt(blocks), "");
  if (!given.empty() && given.size() != blocks.size()) {
    reader.fail(key,
                "has " + std::to_string(blocks.size()) + " entries, but the layer pattern has " +
                    std::to_string(given.size()) + " layers",
                "");
  }
  Layout layout;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string block_key = key + "[" + std::to_string(i) + "]";
    if (!blocks[i].is_object())
      reader.fail(block_key, "must be an object, not " + json_excerpt(blocks[i]), "");
    const auto type = blocks[i].find("block_type");
    if (type == blocks[i].end() && given.empty()) reader.fail(block_key, "has no block_type", "");
    const LayerKind kind =
        type == blocks[i].end() ? given[i] : kind_of_word(reader, block_key + ".block_type", *type);
    if (!given.empty() && kind != given[i]) {
      reader.fail(
          block_key + ".block_type",
          "contradicts the layer pattern, which has '" + std::string(1, layer_letter(given[i])) + "' there",
          "");
    }
    layout.push_back(kind);
  }
  return layout;
}

/// The layout under a list key or a pattern key, the list winning; empty if there is neither.
Layout read_layout(const ConfigReader& reader, Spellings list_keys, const std::string& pattern_key) {
  const json* list = reader.find(list_keys);
  const std::string pattern = reader.text({pattern_key}, "");
  if (list == nullptr) return layout_of_pattern(reader, pattern_key, pattern);
  const std::string list_key(*list_keys.begin());
  const Layout layout = layout_of_list(reader, list_key, *list);
  if (!pattern.empty() && layout_of_pattern(reader, pattern_key, pattern) != layout) {
    reader.warn(reader.where() + ": " + pattern_key + " differs from " + list_key + "; the list wins");
  }
  return layout;
}

/// The values layers have unless a block says otherwise.
LayerConfig read_moe_values(const ConfigReader& reader, const LayerConfig& fallback) {
  LayerConfig values;
  values.n_routed_experts =
      reader.integer({"n_routed_experts", "num_local_experts"}, fallback.n_routed_experts, kExperts);
  values.num_experts_per_tok =
      reader.integer({"num_experts_per_tok"}, fallback.num_experts_per_tok, kExperts);
  values.moe_intermediate_size =
      reader.integer({"moe_intermediate_size"}, fallback.moe_intermediate_size, kWidth);
  values.moe_latent_size = reader.integer({"moe_latent_size"}, fallback.moe_latent_size, kLatent);
  return values;
}

struct SharedExperts {
  int64_t number = 1;
  int64_t width = 7688;
};

SharedExperts read_shared_experts(const ConfigReader& reader, const SharedExperts& fallback) {
  return {reader.integer({"n_shared_experts"}, fallback.number, kSharedExperts),
          reader.integer({"moe_shared_expert_intermediate_size"}, fallback.width, {0, kWidth.high})};
}

/// Everything a layer may inherit.
struct Globals {
  LayerConfig moe;
  SharedExperts shared;
};

Globals read_globals(const ConfigReader& reader, const Globals& fallback) {
  return {read_moe_values(reader, fallback.moe), read_shared_experts(reader, fallback.shared)};
}

Globals default_globals() {
  Globals globals;
  globals.moe.n_routed_experts = 8;
  globals.moe.num_experts_per_tok = 2;
  globals.moe.moe_intermediate_size = 7688;
  return globals;
}

LayerConfig make_layer(LayerKind kind, const Globals& globals, int64_t intermediate_size) {
  LayerConfig layer;
  layer.kind = kind;
  if (kind == LayerKind::kMlp) layer.intermediate_size = intermediate_size;
  if (kind == LayerKind::kMoe) {
    layer = globals.moe;
    layer.kind = kind;
    layer.shared_intermediate_size = globals.shared.number * globals.shared.width;
  }
  return layer;
}

/// intermediate_size of every layer. A list is by layer if it has as many entries as layers, by MLP layer if
/// it has as many entries as those: the two readings found in other engines.
std::vector<int64_t> read_intermediate_sizes(const ConfigReader& reader, const Layout& layout) {
  const std::string key = "intermediate_size";
  const json* value = reader.find(key);
  if (value == nullptr) return std::vector<int64_t>(layout.size(), 21504);
  if (!value->is_array()) {
    return std::vector<int64_t>(layout.size(), reader.to_integer(*value, key, kWidth));
  }
  const auto num_mlp = static_cast<size_t>(std::count(layout.begin(), layout.end(), LayerKind::kMlp));
  const bool by_layer = value->size() == layout.size();
  if (!by_layer && value->size() != num_mlp) {
    reader.fail(key,
                "is a list of " + std::to_string(value->size()) + ", but there are " +
                    std::to_string(layout.size()) + " layers, of them " + std::to_string(num_mlp) + " MLP",
                "give one entry for each layer or one for each MLP layer");
  }
  std::vector<int64_t> sizes(layout.size(), 0);
  size_t mlp_idx = 0;
  for (size_t i = 0; i < layout.size(); ++i) {
    if (layout[i] != LayerKind::kMlp) continue;
    const size_t entry = by_layer ? i : mlp_idx++;
    sizes[i] = reader.to_integer((*value)[entry], key + "[" + std::to_string(entry) + "]", kWidth);
  }
  return sizes;
}

ConfigReader block_reader(const ConfigReader& reader, const json& blocks, const std::string& key, size_t i) {
  return ConfigReader(blocks[i], reader.where() + ": " + key + "[" + std::to_string(i) + "]",
                      reader.warnings());
}

/// `blocks` may be null: then all layers have the global values.
std::vector<LayerConfig> make_layers(const ConfigReader& reader, const Layout& layout, const std::string& key,
                                     const Globals& globals, const std::vector<int64_t>& intermediate_sizes,
                                     ModelConfig& config) {
  const json* blocks = reader.find(key);
  std::vector<LayerConfig> layers;
  for (size_t i = 0; i < layout.size(); ++i) {
    if (blocks == nullptr) {
      layers.push_back(make_layer(layout[i], globals, intermediate_sizes[i]));
      continue;
    }
    const ConfigReader block = block_reader(reader, *blocks, key, i);
    for (const auto& [name, value] : block.object().items()) {
      if (!is_known_block_config_key(name)) {
        config.unknown_keys.push_back(key + "[" + std::to_string(i) + "]." + name);
      }
    }
    const int64_t width = layout[i] == LayerKind::kMlp
                              ? block.integer({"intermediate_size"}, intermediate_sizes[i], kWidth)
                              : 0;
    layers.push_back(make_layer(layout[i], read_globals(block, globals), width));
  }
  return layers;
}

/// What globals inherit where config.json leaves them out: a Puzzle model may state them only in its MTP
/// block.
Globals mtp_block_globals(const ConfigReader& reader) {
  const json* blocks = reader.find("mtp_block_configs");
  Globals globals = default_globals();
  if (blocks == nullptr || !blocks->is_array()) return globals;
  for (size_t i = 0; i < blocks->size(); ++i) {
    const ConfigReader block = block_reader(reader, *blocks, "mtp_block_configs", i);
    const json* type = block.find("block_type");
    if (type != nullptr && *type == "moe") return read_globals(block, globals);
  }
  return globals;
}

void read_mtp_layers(const ConfigReader& reader, const Globals& globals, ModelConfig& config) {
  const bool has_blocks = reader.find("mtp_block_configs") != nullptr;
  config.num_nextn_predict_layers = reader.integer({"num_nextn_predict_layers"}, has_blocks ? 1 : 0, {0, 16});
  if (config.num_nextn_predict_layers == 0) return;
  Layout layout = read_layout(reader, {"mtp_layers_block_type"}, "mtp_hybrid_override_pattern");
  if (has_blocks) {
    layout = layout_of_blocks(reader, "mtp_block_configs", *reader.find("mtp_block_configs"), layout);
  }
  if (layout.empty()) layout = {LayerKind::kAttention, LayerKind::kMoe};
  if (layout.size() > kMaxLayers) reader.fail("mtp_layers_block_type", "has too many layers", "");
  Globals mtp_globals = globals;
  mtp_globals.moe.n_routed_experts =
      reader.integer({"mtp_n_routed_experts"}, globals.moe.n_routed_experts, kExperts);
  const std::vector<int64_t> widths(layout.size(), 21504);
  const auto sublayers = make_layers(reader, layout, "mtp_block_configs", mtp_globals, widths, config);
  for (int64_t depth = 0; depth < config.num_nextn_predict_layers; ++depth) {
    config.mtp_layers.insert(config.mtp_layers.end(), sublayers.begin(), sublayers.end());
  }
}

}  // namespace

void read_layers(const ConfigReader& reader, ModelConfig& config) {
  Layout layout = read_layout(reader, {"layers_block_type", "layer_types"}, "hybrid_override_pattern");
  if (const json* blocks = reader.find("block_configs")) {
    layout = layout_of_blocks(reader, "block_configs", *blocks, layout);
  }
  if (layout.empty()) {
    reader.fail("hybrid_override_pattern", "is missing or empty, and so is layers_block_type",
                "one of the two must say which kind each layer is");
  }
  if (layout.size() > kMaxLayers) {
    reader.fail("hybrid_override_pattern",
                "has " + std::to_string(layout.size()) + " layers; at most " + std::to_string(kMaxLayers) +
                    " are possible",
                "");
  }
  const auto num_layers = static_cast<int64_t>(layout.size());
  const int64_t stated = reader.integer({"num_hidden_layers"}, num_layers, {0, INT32_MAX});
  if (stated != num_layers) {
    reader.warn(reader.where() + ": num_hidden_layers is " + std::to_string(stated) +
                ", but the layer pattern has " + std::to_string(num_layers) + " layers; the pattern wins");
  }
  const Globals globals = read_globals(reader, mtp_block_globals(reader));
  config.layers =
      make_layers(reader, layout, "block_configs", globals, read_intermediate_sizes(reader, layout), config);
  read_mtp_layers(reader, globals, config);
}

}  // namespace nemo
