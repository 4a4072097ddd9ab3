#include "lib/weights/synthetic/synthesize.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "lib/config/json_text.h"
#include "lib/output/files.h"
#include "lib/weights/synthetic/byte_tokenizer.h"
#include "lib/weights/synthetic/config_slice.h"
#include "lib/weights/synthetic/shard_writer.h"
#include "lib/weights/synthetic/tensor_list.h"

namespace nemo {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 64ULL << 20;
constexpr uint64_t kOtherBytes = 16ULL
                                 << 20;  // headers, index, tokenizer: what the check of the disk allows for

void refuse_used_folder(const std::string& folder) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder))
    throw Error(folder, "is there already and is no folder", "give another --out", ErrorKind::kBadJob);
  if (!fs::is_empty(folder))
    throw Error(folder, "is not empty", "give another --out, or remove it first", ErrorKind::kBadJob);
}

void check_room(const std::string& folder, uint64_t needed) {
  fs::path there = fs::absolute(folder);
  while (!fs::exists(there)) there = there.parent_path();
  const uint64_t free = fs::space(there).available;
  if (needed <= free) return;
  throw Error(folder,
              "the checkpoint takes " + std::to_string(needed) + " bytes, but the disk has " +
                  std::to_string(free) + " left",
              "choose fewer layers (--layers), a smaller format (--quant) or another disk");
}

void check_vocabulary(const ModelConfig& config, const std::string& where) {
  if (config.vocab_size >= kByteTokenizerIds) return;
  throw Error(where + ": vocab_size",
              std::to_string(config.vocab_size) + " has no room for a token a byte and the special tokens",
              "it must be at least " + std::to_string(kByteTokenizerIds));
}

void write_json(const std::string& path, const json& document) {
  AtomicFile file(path);
  file.write(document.dump(1) + "\n");
  file.publish();
}

json announcement(StoredAs quantization, const std::vector<std::string>& not_quantized) {
  json section = {{"quant_algo", stored_as_text(quantization)},
                  {"kv_cache_quant_algo", "FP8"},
                  {"exclude_modules", not_quantized}};
  if (quantization == StoredAs::kNvfp4) section["group_size"] = 16;
  return {{"producer", {{"name", "nemo-dist synth"}}}, {"quantization", section}};
}

std::string config_file(const std::string& path) {
  return fs::is_directory(path) ? (fs::path(path) / "config.json").string() : path;
}

}  // namespace

Synthesis synthesize_checkpoint(kernels::ThreadPool& threads, const SynthesisOptions& options) {
  refuse_used_folder(options.out_folder);
  const std::string file = config_file(options.config_path);
  const ModelConfig whole = load_model_config(file);
  const json document = parse_json(read_text_file(file, kMaxConfigBytes), file);
  const std::vector<int64_t> choice = parse_layer_choice(options.layers, whole.num_layers());
  const json slice = slice_config(document, whole, choice);
  const ModelConfig config = parse_model_config(slice.dump(), file + ", cut to --layers");
  check_vocabulary(config, file);
  const SyntheticTensors list = synthetic_tensors(config, choice, options.quantization);

  Synthesis result{.num_layers = config.num_layers(),
                   .num_tensors = static_cast<int64_t>(list.tensors.size())};
  for (const RandomTensor& tensor : list.tensors) result.num_bytes += tensor.num_bytes();
  check_room(options.out_folder, result.num_bytes + kOtherBytes);
  create_folders(options.out_folder);
  write_json(options.out_folder + "/config.json", slice);
  write_json(options.out_folder + "/tokenizer.json", byte_tokenizer());
  write_json(options.out_folder + "/tokenizer_config.json", byte_tokenizer_config());
  if (options.quantization != StoredAs::kPlain)
    write_json(options.out_folder + "/hf_quant_config.json",
               announcement(options.quantization, list.not_quantized));
  write_shards(threads, options.out_folder, list.tensors, options.seed);
  return result;
}

}  // namespace nemo
