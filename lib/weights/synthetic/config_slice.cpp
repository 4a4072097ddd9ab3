#include "lib/weights/synthetic/config_slice.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>
#include <string>

#include "kernels/error.h"

namespace nemo {
namespace {

using nlohmann::json;

[[noreturn]] void refuse_choice(std::string_view text, const std::string& what, int64_t num_layers) {
  throw Error("--layers " + std::string(text), what,
              "give rising numbers and ranges from 0 to " + std::to_string(num_layers - 1) + ", as in 0-3,7",
              ErrorKind::kBadJob);
}

std::optional<int64_t> to_number(std::string_view text) {
  int64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

template <class Sequence>
Sequence chosen(const Sequence& all, const std::vector<size_t>& places) {
  Sequence result{};
  for (const size_t place : places) result.push_back(all[place]);
  return result;
}

void slice_list(json& config, const char* key, const std::vector<size_t>& places) {
  const auto entry = config.find(key);
  if (entry == config.end() || entry->is_null()) return;
  if (entry->is_string()) {
    *entry = chosen(entry->get<std::string>(), places);
  } else if (entry->is_array()) {
    const json all = *entry;
    *entry = json::array();
    for (const size_t place : places) entry->push_back(all[place]);
  }
}

/// The places of the chosen MLP layers among all MLP layers: a list of widths may have one entry for each of
/// those.
std::vector<size_t> mlp_places(const ModelConfig& whole, const std::vector<size_t>& places) {
  std::vector<size_t> result;
  size_t num_before = 0, next = 0;
  for (size_t i = 0; i < whole.layers.size(); ++i) {
    const bool is_mlp = whole.layers[i].kind == LayerKind::kMlp;
    if (next < places.size() && places[next] == i) {
      if (is_mlp) result.push_back(num_before);
      ++next;
    }
    num_before += is_mlp;
  }
  return result;
}

}  // namespace

std::vector<int64_t> parse_layer_choice(std::string_view text, int64_t num_layers) {
  std::vector<int64_t> choice;
  if (text.empty()) {
    choice.resize(static_cast<size_t>(num_layers));
    std::iota(choice.begin(), choice.end(), 0);
    return choice;
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    const std::string_view part = text.substr(begin, comma - begin);
    const size_t dash = part.find('-');
    const auto first = to_number(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : to_number(part.substr(dash + 1));
    if (!first || !last)
      refuse_choice(text, "\"" + std::string(part) + "\" is no number and no range", num_layers);
    if (*first > *last || (!choice.empty() && *first <= choice.back()))
      refuse_choice(text, "the layers do not rise at \"" + std::string(part) + "\"", num_layers);
    if (*last >= num_layers)
      refuse_choice(text, "the model has " + std::to_string(num_layers) + " layers", num_layers);
    for (int64_t layer = *first; layer <= *last; ++layer) choice.push_back(layer);
    begin = comma + 1;
  }
  return choice;
}

json slice_config(const json& document, const ModelConfig& whole, const std::vector<int64_t>& choice) {
  json config = document;
  const std::vector<size_t> places(choice.begin(), choice.end());
  for (const char* key : {"hybrid_override_pattern", "layers_block_type", "layer_types", "block_configs"})
    slice_list(config, key, places);
  const auto widths = config.find("intermediate_size");
  if (widths != config.end() && widths->is_array())
    slice_list(config, "intermediate_size",
               widths->size() == whole.layers.size() ? places : mlp_places(whole, places));
  for (const char* key :
       {"mtp_hybrid_override_pattern", "mtp_layers_block_type", "mtp_block_configs", "mtp_n_routed_experts",
        "num_nextn_predict_layers", "quantization_config", "auto_map"})
    config.erase(key);
  config["num_hidden_layers"] = choice.size();
  config["_comment"] = "Synthetic: true widths, random weights.";
  // A bare Infinity, as some files have it, is not JSON; this is how others spell no limit.
  if (const auto limit = config.find("time_step_limit"); limit != config.end() && limit->is_array())
    for (json& bound : *limit)
      if (bound == "Infinity") bound = 1e308;
  return config;
}

}  // namespace nemo
