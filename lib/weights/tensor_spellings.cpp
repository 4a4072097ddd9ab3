// How files spell the names of lib/weights/tensor_names.h.
#include <array>

#include "lib/weights/tensor_names.h"

namespace nemo {
namespace {

struct Respelling {
  std::string_view from;
  std::string_view to;
};

// Whole names, once the prefixes are gone.
constexpr std::array kNames = {
    Respelling{"embedding.weight", "embeddings.weight"},
    Respelling{"embed_tokens.weight", "embeddings.weight"},
};

// Ends of names. Stacked experts come with and without `.weight`; the router's bias beside or inside the
// gate.
constexpr std::array kEndings = {
    Respelling{".mixer.experts.up_proj.weight", ".mixer.experts.up_proj"},
    Respelling{".mixer.experts.down_proj.weight", ".mixer.experts.down_proj"},
    Respelling{".mixer.e_score_correction_bias", ".mixer.gate.e_score_correction_bias"},
};

bool remove_prefix(std::string_view& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string logical_tensor_name(std::string_view name) {
  remove_prefix(name, "language_model.");  // the multimodal releases wrap the text model whole
  if (!remove_prefix(name, "backbone.")) remove_prefix(name, "model.");
  for (const auto& [from, to] : kNames) {
    if (name == from) return std::string(to);
  }
  for (const auto& [from, to] : kEndings) {
    if (name.ends_with(from)) return std::string(name.substr(0, name.size() - from.size())).append(to);
  }
  return std::string(name);
}

bool is_ignorable_tensor(std::string_view name) {
  if (name.starts_with("mtp.")) return true;
  return name.ends_with(".mixer.k_proj.k_scale") || name.ends_with(".mixer.v_proj.v_scale");
}

std::optional<std::string> quantized_weight_of_scale(std::string_view name) {
  for (const std::string_view ending : {".weight_scale", ".weight_scale_2", ".input_scale"}) {
    if (name.ends_with(ending)) return std::string(name.substr(0, name.size() - ending.size())) + ".weight";
  }
  return std::nullopt;
}

}  // namespace nemo
