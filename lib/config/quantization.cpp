#include "lib/config/quantization.h"

#include <algorithm>

#include "lib/config/config_reader.h"
#include "lib/config/json_text.h"
#include "lib/weights/tensor_names.h"

namespace nemo {
namespace {

using nlohmann::json;

std::optional<StoredAs> stored_as_of(const std::string& algorithm) {
  if (algorithm == "FP8") return StoredAs::kFp8;
  if (algorithm == "NVFP4" || algorithm == "W4A16_NVFP4") return StoredAs::kNvfp4;
  return std::nullopt;
}

/// "backbone.layers.0.mixer.in_proj" -> "layers.0.mixer.in_proj.weight".
std::string weight_name(const std::string& module) {
  return logical_tensor_name(module + ".weight");
}

bool is_pattern(std::string_view text) {
  return text.find('*') != std::string_view::npos;
}

/// `*` stands for any text. Patterns are few and short.
bool matches(std::string_view pattern, std::string_view text) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  const std::string_view rest = pattern.substr(star + 1);
  for (size_t i = star; i <= text.size(); ++i) {
    if (matches(rest, text.substr(i))) return true;
  }
  return false;
}

void check_group_size(const ConfigReader& reader) {
  const int64_t size = reader.integer({"group_size"}, 16, {1, 1 << 20});
  if (size != 16)
    reader.fail("group_size", std::to_string(size) + " is not supported",
                "NVFP4 has one scale for 16 elements");
}

void read_exclusions(const ConfigReader& reader, AnnouncedQuantization& announced) {
  const json* list = reader.find({"exclude_modules", "ignore"});
  if (list == nullptr) return;
  if (!list->is_array())
    reader.fail("exclude_modules", "must be a list of names, not " + json_excerpt(*list), "");
  for (const json& module : *list) {
    if (!module.is_string())
      reader.fail("exclude_modules", "has " + json_excerpt(module) + " in it, which is not a name", "");
    const std::string name = module.get<std::string>();
    if (is_pattern(name)) {
      announced.exclusions.push_back(logical_tensor_name(name));
    } else {
      announced.listed.emplace(weight_name(name), StoredAs::kPlain);
    }
  }
}

void read_quantized_layers(const ConfigReader& reader, AnnouncedQuantization& announced) {
  const json* layers = reader.find("quantized_layers");
  if (layers == nullptr) return;
  if (!layers->is_object())
    reader.fail("quantized_layers", "must be a JSON object, not " + json_excerpt(*layers), "");
  for (const auto& [module, entry] : layers->items()) {
    const ConfigReader layer(entry, reader.where() + ": quantized_layers." + module, reader.warnings());
    const std::string algorithm = layer.text({"quant_algo"}, "");
    const auto stored = stored_as_of(algorithm);
    if (!stored)
      layer.fail("quant_algo", json_excerpt(json(algorithm)) + " is not supported",
                 "FP8, NVFP4 and W4A16_NVFP4 are");
    check_group_size(layer);
    announced.listed.insert_or_assign(weight_name(module), *stored);
  }
  announced.others = StoredAs::kPlain;  // what a mixed release does not name is not quantized
}

/// The other way of saying it: groups of targets with the bits of their weights.
void read_config_groups(const ConfigReader& reader, AnnouncedQuantization& announced) {
  const json* groups = reader.find("config_groups");
  if (groups == nullptr || !groups->is_object()) return;
  for (const auto& [name, group] : groups->items()) {
    if (!group.is_object() || !group.contains("weights") || !group.contains("targets")) continue;
    const ConfigReader weights(group["weights"], reader.where() + ": config_groups." + name + ".weights",
                               reader.warnings());
    const int64_t bits = weights.integer({"num_bits"}, 8, {1, 64});
    if (bits != 4 && bits != 8)
      weights.fail("num_bits", std::to_string(bits) + " is not supported", "4 and 8 are");
    const StoredAs stored = bits == 4 ? StoredAs::kNvfp4 : StoredAs::kFp8;
    for (const json& target : group["targets"]) {
      if (!target.is_string()) continue;
      const std::string module = target.get<std::string>();
      if (module == "Linear") {
        announced.others = stored;
      } else if (!is_pattern(module)) {
        announced.listed.emplace(weight_name(module), stored);
      }
    }
  }
}

/// "kv_cache_quant_algo": "FP8", or config.json's "kv_cache_scheme": {"num_bits": 8, "type": "float", ...}.
/// Whatever else stands there is no matter of ours: an FP8 cache has to be asked for.
bool reads_fp8_kv_cache(const ConfigReader& reader) {
  const json* algorithm = reader.find("kv_cache_quant_algo");
  if (algorithm != nullptr && *algorithm == "FP8") return true;
  const json* scheme = reader.find("kv_cache_scheme");
  return scheme != nullptr && scheme->is_object() && scheme->value("type", json()) == "float" &&
         scheme->value("num_bits", json()) == 8;
}

}  // namespace

std::string_view stored_as_text(StoredAs stored) {
  return stored == StoredAs::kFp8 ? "FP8" : stored == StoredAs::kNvfp4 ? "NVFP4" : "BF16, F16 or F32";
}

std::optional<StoredAs> AnnouncedQuantization::find(std::string_view name) const {
  const auto entry = listed.find(name);
  if (entry != listed.end()) return entry->second;
  const std::string_view module =
      name.ends_with(".weight") ? name.substr(0, name.size() - std::string_view(".weight").size()) : name;
  if (std::any_of(exclusions.begin(), exclusions.end(),
                  [&](const std::string& pattern) { return matches(pattern, module); }))
    return StoredAs::kPlain;
  if (others && name == tensor_name(TensorRole::kEmbedding, 0))
    return StoredAs::kPlain;  // not a linear layer
  return others;
}

bool announces_fp8_kv_cache(std::span<const AnnouncedQuantization> announced) {
  return std::any_of(announced.begin(), announced.end(),
                     [](const AnnouncedQuantization& one) { return one.fp8_kv_cache; });
}

AnnouncedQuantization read_quantization(const ConfigReader& reader, const std::string& method) {
  AnnouncedQuantization announced;
  announced.where = reader.where();
  const std::string algorithm = reader.text({"quant_algo"}, "");
  announced.summary = algorithm.empty() ? method : method + " " + algorithm;
  announced.others = stored_as_of(algorithm);
  announced.fp8_kv_cache = reads_fp8_kv_cache(reader);
  if (announced.others == StoredAs::kNvfp4) check_group_size(reader);
  read_exclusions(reader, announced);
  if (reader.find("quantized_layers") != nullptr) {
    read_quantized_layers(reader, announced);
  } else if (!announced.others) {
    read_config_groups(reader, announced);
  }
  return announced;
}

}  // namespace nemo
