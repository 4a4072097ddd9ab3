// The one table of a model's tensors: logical name, shape, how it is kept in memory, and which ranks need it.
// Loader, parameter counts and --plan all read it; nobody else spells a tensor's name or shape.
//
// A logical name has no prefix ("layers.3.mixer.in_proj.weight", "embeddings.weight", "lm_head.weight",
// "mtp.layers.0.enorm.weight"); lib/weights/checkpoint.h finds it under every published spelling.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/config/model_config.h"

namespace nemo {

enum class TensorRole : uint8_t {
  // outside of layers
  kEmbedding,
  kFinalNorm,
  kLmHead,
  // every layer
  kNorm,
  // Mamba-2
  kInProj,
  kInProjBias,
  kConvWeight,
  kConvBias,
  kALog,
  kD,
  kDtBias,
  kGatedNorm,
  kOutProj,
  kOutProjBias,
  // attention
  kQProj,
  kKProj,
  kVProj,
  kOProj,
  kQBias,
  kKBias,
  kVBias,
  kOBias,
  kKScale,  // of keys and values in an FP8 KV cache
  kVScale,
  // MLP
  kUpProj,
  kDownProj,
  kUpBias,
  kDownBias,
  // mixture of experts
  kRouter,
  kRouterBias,
  kExpertUp,
  kExpertDown,
  kSharedUp,
  kSharedDown,
  kSharedUpBias,
  kSharedDownBias,
  kLatentIn,
  kLatentOut,
  kLatentInBias,
  kLatentOutBias,
  // multi-token prediction, outside of its sublayers
  kMtpEmbeddingNorm,
  kMtpHiddenNorm,
  kMtpInProj,
  kMtpFinalNorm,
};

/// Which ranks of a replica hold the tensor (DESIGN.md section 2).
enum class Split : uint8_t {
  kFirstStage,  ///< every rank of stage 0
  kLastStage,   ///< every rank of the last stage
  kStage,       ///< every rank of the layer's stage holds all of it
  kByExpert,    ///< dimension 0 is the expert; each expert rank holds its own block
  kNotLoaded,   ///< counted, never read (multi-token prediction)
};

/// How the tensor is kept in memory.
enum class Keep : uint8_t {
  kJobDType,  ///< a matrix: bfloat16 or float32 as the job says
  kFloat32,   ///< small and delicate: always float32
};

struct TensorSpec {
  TensorRole role{};
  std::string name;            ///< logical; of stacked experts: "layers.1.mixer.experts.up_proj"
  std::vector<int64_t> shape;  ///< routed experts: [n_routed_experts, rows, columns]
  Keep keep = Keep::kJobDType;
  Split split = Split::kStage;

  int64_t num_elements() const;
};

/// Tensors of one layer, its norm first; names begin with "layers.<layer_idx>.".
std::vector<TensorSpec> layer_tensors(const ModelConfig& config, int64_t layer_idx);

/// Tensors of a layer of that shape whose names begin with `prefix` ("layers.3."), for counting and for MTP
/// sublayers.
std::vector<TensorSpec> layer_tensors(const ModelConfig& config, const LayerConfig& layer,
                                      const std::string& prefix);

/// Embedding, final norm and, unless tied, lm_head.
std::vector<TensorSpec> outer_tensors(const ModelConfig& config);

/// Scales of the attention layers' keys and values for an FP8 KV cache, one float each. Not among
/// model_tensors: a checkpoint need not have them.
std::vector<TensorSpec> kv_scale_tensors(const ModelConfig& config);

/// All tensors of the multi-token-prediction head; empty without one.
std::vector<TensorSpec> mtp_tensors(const ModelConfig& config);

/// outer_tensors, then every layer's in order. Not the MTP head's.
std::vector<TensorSpec> model_tensors(const ModelConfig& config);

/// "layers.3.mixer.in_proj.weight". Roles outside of layers ignore `layer_idx`.
std::string tensor_name(TensorRole role, int64_t layer_idx);

/// Expert `expert_id`'s own matrix, [rows, columns]: "layers.1.mixer.experts.7.up_proj.weight". `role` is
/// kExpertUp or kExpertDown. Checkpoint reads it from either form on disk, one file tensor per expert or one
/// stacked tensor.
std::string expert_tensor_name(TensorRole role, int64_t layer_idx, int64_t expert_id);

/// The same from the name of the stacked form: "layers.1.mixer.experts.up_proj".
std::string expert_tensor_name(std::string_view stacked, int64_t expert_id);

/// A name as it stands in a file, made logical: prefixes `backbone.`, `model.`, `language_model.` removed,
/// old spellings replaced. Every name maps to something; whether that is a tensor of the model is another
/// question.
std::string logical_tensor_name(std::string_view file_name);

/// True if a name (logical) may be in a checkpoint without being read: MTP head, KV-cache scales.
bool is_ignorable_tensor(std::string_view logical_name);

/// The scales that lie beside a quantized "X.weight".
enum class ScaleKind : uint8_t {
  kWeight,   ///< "X.weight_scale": of FP8 the one float, of NVFP4 the e4m3 scales of its blocks
  kWeight2,  ///< "X.weight_scale_2": of NVFP4 the one float
  kInput,    ///< "X.input_scale": for quantized activations; not read
};

/// The name of a scale of the matrix "X.weight".
std::string scale_tensor_name(std::string_view weight_name, ScaleKind kind);

}  // namespace nemo
