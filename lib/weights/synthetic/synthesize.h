// A checkpoint of a model's true widths with random weights: to measure, plan and test models whose weights
// do not fit here, a slice of their layers at a time.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/thread_pool.h"
#include "lib/config/quantization.h"

namespace nemo {

struct SynthesisOptions {
  std::string config_path;  ///< a config.json or a folder that holds one
  std::string out_folder;   ///< made; may be there if it is empty
  std::string layers;       ///< "0-3,7"; "" = all
  StoredAs quantization = StoredAs::kPlain;
  uint64_t seed = 0;
};

struct Synthesis {
  int64_t num_layers = 0;
  int64_t num_tensors = 0;
  uint64_t num_bytes = 0;  ///< of all tensors
};

/// Writes a Hugging Face folder that runs at once: config.json of the chosen layers, sharded safetensors,
/// hf_quant_config.json if quantized, and a tokenizer of single bytes. Same options, same bytes, on any
/// machine. Holds little memory whatever the model. Throws Error for a folder that is not empty, a model that
/// cannot be read or has no room for the tokenizer's tokens, and a disk that is too small, before anything is
/// written.
Synthesis synthesize_checkpoint(kernels::ThreadPool& threads, const SynthesisOptions& options);

}  // namespace nemo
