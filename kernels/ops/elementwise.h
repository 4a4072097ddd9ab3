// Embedding, norms, activation and residual: everything that touches each element of a row once or twice.
// All row-pure: a sum over a row is taken in one order fixed by its width.
#pragma once

#include <span>

#include "kernels/context.h"
#include "kernels/large_memory.h"

namespace nemo::kernels {

/// An embedding table [vocab_size, hidden_size] in its storage type. Owner. Move-only.
struct EmbeddingTable {
  DType dtype = DType::kFloat32;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  LargeMemory rows;  ///< floats or bf16, as dtype says
};

/// out[i, :] = table[token_ids[i], :]. out [token_ids.size(), hidden_size]. Ids must be in range.
void embed(const Context& context, std::span<const int32_t> token_ids, const EmbeddingTable& table,
           TensorView<float> out);

/// y = weight * x * (mean(x^2) + epsilon)^(-1/2), square, mean and product in fp32, then rounded to
/// context.dtype. x, y [rows, width], weight [width]. nemotron_h.md 2.1.
void rms_norm(const Context& context, TensorView<const float> x, std::span<const float> weight, float epsilon,
              TensorView<float> y);

/// Mamba-2's gated norm: u = y * silu(z); within each of `num_groups` equal parts of the row u is divided by
/// its own root mean square (epsilon inside), then times weight. fp32 throughout. x = y of the scan, all
/// [rows, inner]. out may be x. nemotron_h.md 2.3 step 7.
void gated_group_rms_norm(const Context& context, TensorView<const float> x, TensorView<const float> gate,
                          std::span<const float> weight, int64_t num_groups, float epsilon,
                          TensorView<float> out);

/// x = max(x, 0)^2 in place.
void relu2(const Context& context, TensorView<float> x);

/// stream = round(stream + delta) to context.dtype. Both [rows, hidden_size].
void add_residual(const Context& context, TensorView<const float> delta, TensorView<float> stream);

/// y += x, not rounded.
void add(const Context& context, TensorView<const float> x, TensorView<float> y);

/// x = round(x) to context.dtype in place.
void round_rows(const Context& context, TensorView<float> x);

/// Conversions for the wire: exact when the values are already representable in bfloat16.
void to_bf16(const Context& context, TensorView<const float> x, TensorView<bf16> y);
void to_float(const Context& context, TensorView<const bf16> x, TensorView<float> y);

}  // namespace nemo::kernels
