#include "launch/inspect.h"

#include <iostream>
#include <map>

#include "launch/exit_codes.h"
#include "launch/progress.h"
#include "lib/config/model_config.h"
#include "lib/config/parameter_count.h"
#include "lib/text/tokenizer.h"
#include "lib/weights/checkpoint.h"
#include "lib/weights/model_files.h"
#include "lib/weights/weight_source.h"

namespace nemo::launch {

namespace {

std::string pattern_of(const ModelConfig& config) {
  std::string pattern;
  for (const LayerConfig& layer : config.layers) pattern += layer_letter(layer.kind);
  return pattern;
}

struct TypeTotal {
  int64_t tensors = 0;
  int64_t bytes = 0;
};

void print_tensors(const WeightSource& source) {
  std::map<std::string, TypeTotal> by_type;
  std::map<std::string, TypeTotal> by_file;
  for (const std::string& name : source.names()) {
    const TensorInfo& tensor = *source.find(name);
    for (TypeTotal* total : {&by_type[std::string(dtype_name(tensor.dtype))], &by_file[tensor.file]}) {
      ++total->tensors;
      total->bytes += static_cast<int64_t>(tensor.num_bytes);
    }
  }
  for (const auto& [type, total] : by_type)
    std::cout << "  " << type << ": " << count_text(total.tensors) << " tensors, " << count_text(total.bytes)
              << " bytes\n";
  for (const auto& [file, total] : by_file)
    std::cout << "  " << file << ": " << count_text(total.tensors) << " tensors\n";
}

}  // namespace

int print_checkpoint(const CommandLine& line) {
  const ModelConfig config = load_model_config(line.checkpoint_path);
  std::cout << config.name << " (" << config.model_type << ")\n"
            << "layers: " << config.num_layers() << "  " << pattern_of(config) << '\n'
            << "hidden size " << config.hidden_size << ", vocabulary " << config.vocab_size << ", context "
            << config.max_position_embeddings << '\n'
            << "parameters: " << count_text(total_parameters(config)) << '\n'
            << "tensors:\n";
  if (is_pack(line.checkpoint_path)) {
    std::cout << "  in one pack, ready for the kernels\n";
  } else {
    print_tensors(*open_checkpoint(line.checkpoint_path));
  }
  Checkpoint::open(line.checkpoint_path, config);
  const Tokenizer tokenizer = Tokenizer::load(line.checkpoint_path);
  std::cout << "tokenizer: " << count_text(tokenizer.vocab_size()) << " tokens, "
            << count_text(static_cast<int64_t>(tokenizer.special_ids().size())) << " special\n"
            << "all tensors are there, with the shapes that config.json asks for\n";
  return kExitDone;
}

}  // namespace nemo::launch
