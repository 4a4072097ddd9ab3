#include "lib/model/mixers.h"

#include "kernels/ops/elementwise.h"

namespace nemo {

using kernels::TensorView;

void mamba2_mixer(const Step& step, const Mamba2Layer& layer, const kernels::MambaState& state,
                  TensorView<const float> x, TensorView<float> y) {
  const ModelConfig& config = step.config;
  const kernels::Mamba2Shape shape{.num_heads = config.mamba_num_heads,
                                   .head_dim = config.mamba_head_dim,
                                   .num_groups = config.n_groups,
                                   .state_size = config.ssm_state_size,
                                   .conv_kernel = config.conv_kernel,
                                   .dt_min = config.time_step_min,
                                   .dt_max = config.time_step_max};
  const kernels::Mamba2Weights weights{.conv_weight = layer.conv_weight,
                                       .conv_bias = layer.conv_bias,
                                       .a_log = layer.a_log,
                                       .d = layer.d,
                                       .dt_bias = layer.dt_bias};
  const int64_t inner = shape.inner();
  const int64_t conv_dim = shape.conv_dim();

  Workspace::Frame frame(step.workspace);
  auto projected = step.workspace.tensor<float>(x.rows, config.in_proj_size());  // [T, z | x B C | dt]
  layer.in_proj(step.context, x, projected);
  const auto gate = projected.slice_cols(0, inner);
  const auto xbc = projected.slice_cols(inner, conv_dim);
  const auto dt = projected.slice_cols(inner + conv_dim, config.mamba_num_heads);

  auto convolved = step.workspace.tensor<float>(x.rows, conv_dim);
  kernels::causal_conv_silu(step.context, step.segments, xbc, shape, weights, state, convolved);
  auto scanned = step.workspace.tensor<float>(x.rows, inner);
  kernels::selective_scan(step.context, step.segments, convolved, dt, shape, weights, state, scanned);
  kernels::gated_group_rms_norm(step.context, scanned, gate, layer.norm, config.n_groups,
                                config.layer_norm_epsilon, scanned);
  layer.out_proj(step.context, scanned, y);
}

void attention_mixer(const Step& step, const AttentionLayer& layer, const kernels::KvPages& pages,
                     TensorView<const float> x, TensorView<float> y) {
  const ModelConfig& config = step.config;
  Workspace::Frame frame(step.workspace);
  const int64_t q_size = config.num_attention_heads * config.head_dim;
  const int64_t kv_size = config.num_key_value_heads * config.head_dim;
  auto q = step.workspace.tensor<float>(x.rows, q_size);
  auto k = step.workspace.tensor<float>(x.rows, kv_size);
  auto v = step.workspace.tensor<float>(x.rows, kv_size);
  layer.q_proj(step.context, x, q);
  layer.k_proj(step.context, x, k);
  layer.v_proj(step.context, x, v);
  kernels::append_kv(step.context, step.segments, step.page_tables, k, v, pages);
  auto attended = step.workspace.tensor<float>(x.rows, q_size);
  kernels::paged_attention(step.context, step.segments, step.page_tables, q, config.num_attention_heads,
                           pages, attended);
  layer.o_proj(step.context, attended, y);
}

void mlp_up(const Step& step, const MlpLayer& layer, TensorView<const float> x, TensorView<float> hidden) {
  layer.up_proj(step.context, x, hidden);
  kernels::relu2(step.context, hidden);
}

void mlp_down(const Step& step, const MlpLayer& layer, TensorView<const float> hidden, TensorView<float> y) {
  layer.down_proj(step.context, hidden, y);
}

void mlp_mixer(const Step& step, const MlpLayer& layer, TensorView<const float> x, TensorView<float> y) {
  Workspace::Frame frame(step.workspace);
  auto hidden = step.workspace.tensor<float>(x.rows, layer.up_proj.weight.n());
  mlp_up(step, layer, x, hidden);
  mlp_down(step, layer, hidden, y);
}

}  // namespace nemo
