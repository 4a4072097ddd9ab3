// SerialModel: the whole model on one rank, one sequence at a time, no batching and no exchange: the readable
// oracle that every distributed result must equal to the bit, and the engine of the in-process Generator.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/model/forward.h"

namespace nemo {

class SerialModel {
 public:
  struct Options {
    kernels::DType dtype = kernels::DType::kBFloat16;
    int threads = 1;
    kernels::KvFormat kv_format = kernels::kv_format(dtype);
  };

  /// Loads the Hugging Face folder `path`. Throws Error.
  SerialModel(const std::string& path, Options options);

  const ModelConfig& config() const { return config_; }
  const kernels::Context& context() const { return context_; }

  /// Called after every layer with its index and the residual stream [T, H].
  using LayerObserver = std::function<void(int64_t, kernels::TensorView<const float>)>;

  /// Feeds the next tokens of the sequence. Returns the final residual stream [T, H] of those rows, valid
  /// until the next call. Throws Error past max_position_embeddings.
  kernels::TensorView<const float> forward(std::span<const int32_t> token_ids,
                                           const LayerObserver& observer = nullptr);

  /// logits [R, V] of rows of a residual stream.
  void logits(kernels::TensorView<const float> stream, kernels::TensorView<float> logits);

  /// Tokens fed since the last reset.
  int64_t position() const { return position_; }

  /// Starts a new sequence.
  void reset() { position_ = 0; }

  Workspace& workspace() { return workspace_; }
  StateCache& state() { return state_; }

 private:
  std::vector<int32_t> take_new_pages(int64_t num_tokens);

  ModelConfig config_;
  kernels::ThreadPool threads_;
  kernels::Context context_;
  Workspace workspace_;
  kernels::EmbeddingTable embedding_;
  std::vector<Layer> layers_;
  LmHead head_;
  StateCache state_;
  std::vector<float> stream_;
  int64_t position_ = 0;
};

}  // namespace nemo
