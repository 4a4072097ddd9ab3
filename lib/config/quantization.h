// What a model's files announce about quantized weights: config.json's quantization_config and
// hf_quant_config.json, as NVIDIA's modelopt writes them. Announcements are for --plan, which sees no
// weights, and for comparison: what a checkpoint's tensors are decides how they are read
// (lib/weights/checkpoint.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

class ConfigReader;

/// How a matrix lies in a checkpoint.
enum class StoredAs : uint8_t {
  kPlain,  ///< BF16, F16 or F32
  kFp8,    ///< e4m3 and one scale
  kNvfp4,  ///< e2m1, a scale for every 16 elements, and one for all
};

/// "BF16, F16 or F32", "FP8", "NVFP4".
std::string_view stored_as_text(StoredAs stored);

struct AnnouncedQuantization {
  std::string where;               ///< "folder/hf_quant_config.json: quantization"
  std::string summary;             ///< "modelopt NVFP4"
  std::optional<StoredAs> others;  ///< linear layers that are neither listed nor excluded
  std::map<std::string, StoredAs, std::less<>> listed;  ///< by logical tensor name
  std::vector<std::string> exclusions;                  ///< patterns of modules that are not quantized
  bool fp8_kv_cache = false;                            ///< keys and values are meant to be kept as e4m3

  /// What is announced for a matrix (a logical tensor name, of experts one's own), or nothing.
  std::optional<StoredAs> find(std::string_view name) const;
};

/// True if one of them says so.
bool announces_fp8_kv_cache(std::span<const AnnouncedQuantization> announced);

/// Reads the object that has quant_algo in it. Throws Error naming file and key.
AnnouncedQuantization read_quantization(const ConfigReader& reader, const std::string& method);

}  // namespace nemo
