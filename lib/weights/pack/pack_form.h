// What a pack holds of a model, and how. Internal to lib/weights.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/weight_format.h"
#include "lib/weights/tensor_names.h"

namespace nemo {

/// Every tensor of a pack: the model's, and of tied embeddings the lm_head that is made of them.
std::vector<TensorSpec> pack_tensors(const ModelConfig& config);

/// Whether the tensor is kept in kernel layout. Others are vectors, in float32, and the embedding, whose rows
/// are looked up.
bool is_packed_matrix(const TensorSpec& spec);

/// What unquantized values of the tensor are kept as when the job's type is `dtype`.
kernels::DType pack_dtype(const TensorSpec& spec, kernels::DType dtype);

/// "bfloat16", "packed nvfp4": how PackedTensor::form spells it.
std::string_view dtype_form(kernels::DType dtype);
std::string packed_form(kernels::WeightFormat format);
std::optional<kernels::WeightFormat> find_packed_form(std::string_view form);

/// A fingerprint of the layout in which this build packs matrices, of every format: taken from packed bytes,
/// so that no change of layout can be forgotten. It does not depend on the instruction set.
std::string packed_layout();

}  // namespace nemo
