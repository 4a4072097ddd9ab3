// How files spell the names of lib/weights/tensor_names.h.
#include <array>

#include "kernels/error.h"
#include "lib/weights/tensor_names.h"

namespace nemo {
namespace {

struct Respelling {
  std::string_view from;
  std::string_view to;
};

// Beginnings of names, once the prefixes are gone: of the embedding and of its scales.
constexpr std::array kBeginnings = {
    Respelling{"embedding.", "embeddings."},
    Respelling{"embed_tokens.", "embeddings."},
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
  for (const auto& [from, to] : kBeginnings) {
    if (name.starts_with(from)) return std::string(to).append(name.substr(from.size()));
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

std::string scale_tensor_name(std::string_view weight_name, ScaleKind kind) {
  constexpr std::string_view kWeight = ".weight";
  NEMO_CHECK(weight_name.ends_with(kWeight), std::string(weight_name));
  const char* ending = kind == ScaleKind::kWeight    ? ".weight_scale"
                       : kind == ScaleKind::kWeight2 ? ".weight_scale_2"
                                                     : ".input_scale";
  return std::string(weight_name.substr(0, weight_name.size() - kWeight.size())) + ending;
}

}  // namespace nemo
