// What a rank allocates, in bytes: weights exactly as loaded (from the one tensor table), decode state, KV
// pages and scratch. All sums over a stage's layers only grow with the stage, which stage_cut relies on.
#pragma once

#include <cstdint>
#include <vector>

#include "dist/plan/plan.h"
#include "kernels/ops/attention.h"
#include "kernels/weight_format.h"
#include "lib/config/job_config.h"
#include "lib/config/model_config.h"
#include "lib/weights/tensor_names.h"

namespace nemo::dist {

/// What the job stores and sends: weights that are not quantized, rows on the wire.
kernels::DType storage_type(const JobConfig& job);

/// The format a matrix of layer `layer_idx` is kept in, as far as the files announce it.
kernels::WeightFormat format_in_memory(const ModelConfig& model, const TensorSpec& spec, int64_t layer_idx,
                                       kernels::DType dtype);
/// The same of the output head, tied or not.
kernels::WeightFormat head_format_in_memory(const ModelConfig& model, kernels::DType dtype);

/// True if two layers of a model have the same tensors and the same work. A model has a handful of different
/// layers.
bool is_same_shape(const LayerConfig& a, const LayerConfig& b);

/// Intermediates of a layer while it runs.
struct Scratch {
  int64_t per_row = 0;  ///< bytes for each row of a step
  int64_t portion_pairs_per_row =
      0;  ///< (row, expert) pairs at most; experts run over a portion of them at a time
  int64_t per_portion_pair = 0;  ///< bytes
  int64_t bytes(int64_t num_rows) const;
};

/// One layer, or what the first and last stage hold besides layers.
struct LayerBytes {
  int64_t shared_weights = 0;  ///< what every rank of the stage holds
  int64_t expert_weights = 0;  ///< one routed expert
  int64_t num_experts = 0;
  int64_t state_per_sequence = 0;
  int64_t kv_per_token = 0;
  Scratch scratch;
};

/// Of one lane; what memory has to hold besides weights.
struct EngineSizes {
  int64_t max_sequences = 0;
  int64_t max_batch_tokens = 0;
  int64_t kv_pages = 0;
};

/// The memory of any stage of a layout with `num_lanes` expert ranks. Lane 0 has the largest block of
/// experts.
class MemoryModel {
 public:
  MemoryModel(const ModelConfig& model, kernels::DType dtype, kernels::KvFormat kv_format, int64_t num_lanes);
  /// Keys and values in `dtype` too.
  MemoryModel(const ModelConfig& model, kernels::DType dtype, int64_t num_lanes)
      : MemoryModel(model, dtype, kernels::kv_format(dtype), num_lanes) {}

  kernels::KvFormat kv_format() const { return kv_format_; }
  int64_t num_layers() const { return static_cast<int64_t>(layers_.size()); }
  const LayerBytes& layer(int64_t layer) const { return layers_[static_cast<size_t>(layer)]; }
  int64_t embedding_bytes() const { return embedding_bytes_; }
  int64_t head_bytes() const { return head_bytes_; }  ///< final norm and lm_head

  /// Weights of lane `lane` of a stage: its layers, the embedding if it holds layer 0, norm and head if the
  /// last one.
  int64_t weight_bytes(LayerRange stage, int64_t lane) const;
  int64_t state_bytes_per_sequence(LayerRange stage) const;
  int64_t kv_bytes_per_token(LayerRange stage) const;

  /// Scratch for steps of `max_batch_tokens` rows: residual stream, its norm and a mixer's output; the
  /// largest layer's intermediates (reused from layer to layer); rows sent to and received from other stages,
  /// two of each, so that a transfer overlaps a step; on the last stage logits of 64 rows at a time.
  int64_t buffer_bytes(LayerRange stage, int64_t max_batch_tokens) const;

  /// All of it, on the fullest lane.
  int64_t rank_bytes(LayerRange stage, const EngineSizes& sizes) const;

 private:
  void add_layers(const ModelConfig& model);
  bool is_whole_model(LayerRange stage) const { return stage.begin == 0 && stage.end == num_layers(); }

  kernels::DType dtype_;
  kernels::KvFormat kv_format_;
  int64_t num_lanes_;
  int64_t hidden_size_;
  int64_t vocab_size_;
  std::vector<LayerBytes> layers_;
  int64_t embedding_bytes_ = 0;
  int64_t head_bytes_ = 0;
  // Sums over layers [0, i), so that a stage costs two look-ups.
  std::vector<int64_t> shared_before_, heaviest_before_, state_before_, kv_before_;
};

}  // namespace nemo::dist
