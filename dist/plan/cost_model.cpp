#include "dist/plan/cost_model.h"

#include <algorithm>

#include "lib/config/parameter_count.h"

namespace nemo::dist {
namespace {

constexpr double kFlopsPerWeight = 2;  // one multiplication, one addition
constexpr double kFlopsPerState = 6;   // decay, outer product, sum, and the product with C
// A layer's exchange is three rounds: counts, rows there, sums back.
constexpr double kExchangeRounds = 3;

/// base^exponent by squaring: std::pow may differ in the last bit between hosts.
double power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent /= 2, base *= base)
    if (exponent % 2 == 1) result *= base;
  return result;
}

}  // namespace

Neighbourhood neighbourhood(const Layout& layout, int64_t ranks_per_host) {
  Neighbourhood worst;
  const int64_t num_lanes = layout.expert;
  for (int64_t first = 0; first < layout.num_ranks(); first += num_lanes) {
    // A group's worst rank stands on the host with the fewest of them.
    for (int64_t rank = first; rank < first + num_lanes;) {
      const int64_t host_end = (rank / ranks_per_host + 1) * ranks_per_host;
      const int64_t end = std::min(host_end, first + num_lanes);
      worst.lanes_on_other_hosts = std::max(worst.lanes_on_other_hosts, num_lanes - (end - rank));
      rank = end;
    }
    const bool is_last_stage = first / num_lanes % layout.pipeline == layout.pipeline - 1;
    if (is_last_stage) continue;
    // Ranks and their successors are num_lanes apart: the group before and after share a host or some pair
    // does not.
    const bool same_host = first / ranks_per_host == (first + 2 * num_lanes - 1) / ranks_per_host;
    worst.stages_on_other_hosts = worst.stages_on_other_hosts || !same_host;
  }
  return worst;
}

std::vector<LayerWork> model_work(const ModelConfig& model) {
  std::vector<LayerWork> result;
  for (const LayerConfig& layer : model.layers) {
    const LayerParameterCount count = layer_parameters(model, layer);
    LayerWork work;
    work.row_flops = kFlopsPerWeight * static_cast<double>(count.total - count.routed);
    if (layer.kind == LayerKind::kMamba)
      work.row_flops += kFlopsPerState * static_cast<double>(model.mamba_inner_size() * model.ssm_state_size);
    if (layer.kind == LayerKind::kAttention)  // scores, then values
      work.context_flops =
          2 * kFlopsPerWeight * static_cast<double>(model.num_attention_heads * model.head_dim);
    if (layer.kind == LayerKind::kMoe) {
      work.top_k = static_cast<double>(layer.num_experts_per_tok);
      work.expert_flops =
          kFlopsPerWeight * static_cast<double>(count.routed) / static_cast<double>(layer.n_routed_experts);
    }
    result.push_back(work);
  }
  LayerWork head;
  head.row_flops = kFlopsPerWeight * static_cast<double>(embedding_parameters(model));
  result.push_back(head);
  return result;
}

CostModel::CostModel(const std::vector<LayerWork>& work, const MemoryModel& memory, const WireBytes& wire,
                     const Layout& layout, const Machine& machine, int64_t threads, const Rates& rates)
    : work_(work),
      memory_(memory),
      wire_(wire),
      layout_(layout),
      rates_(rates),
      bytes_per_s_(static_cast<double>(threads) * rates.core_bytes_per_s),
      flops_(static_cast<double>(threads) * rates.core_flops),
      network_bytes_per_s_(rates.network_bytes_per_s /
                           static_cast<double>(std::min(machine.ranks_per_host, machine.num_ranks))),
      neighbours_(neighbourhood(layout, machine.ranks_per_host)) {}

double CostModel::seconds(const LayerBytes& bytes, const LayerWork& work, const Workload& workload) const {
  const double rows = workload.rows_per_step;
  const double mean_context = static_cast<double>(workload.context) / 2;
  double read = static_cast<double>(bytes.shared_weights);
  read += rows * (2 * static_cast<double>(bytes.state_per_sequence) +
                  mean_context * static_cast<double>(bytes.kv_per_token));
  double flops = rows * (work.row_flops + mean_context * work.context_flops);
  if (bytes.num_experts > 0) {
    const kernels::ExpertRange largest = expert_block(bytes.num_experts, layout_.expert, 0);
    const double here = static_cast<double>(largest.end - largest.begin);
    const double num_experts = static_cast<double>(bytes.num_experts);
    const double all_rows = rows * static_cast<double>(layout_.expert);
    // An expert's weights are read once if any row chose it.
    const double untouched =
        power(1 - work.top_k / num_experts, std::max<int64_t>(1, static_cast<int64_t>(all_rows)));
    read += here * (1 - untouched) * static_cast<double>(bytes.expert_weights);
    flops += all_rows * work.top_k * here / num_experts * work.expert_flops;
  }
  return read / bytes_per_s_ + flops / flops_ + rates_.layer_overhead_s;
}

double CostModel::exchange_seconds(double rows) const {
  if (layout_.expert == 1) return 0;
  const double others = static_cast<double>(layout_.expert - 1);
  const double remote = static_cast<double>(neighbours_.lanes_on_other_hosts);
  const double messages = (others - remote) * rates_.host_latency_s + remote * rates_.network_latency_s;
  const double bytes = rows * (wire_.dispatch_per_moe_layer + wire_.combine_per_moe_layer);
  return kExchangeRounds * messages + bytes * (others - remote) / others / rates_.host_bytes_per_s +
         bytes * remote / others / network_bytes_per_s_;
}

double CostModel::boundary_seconds(const Workload& workload) const {
  if (layout_.pipeline == 1) return 0;
  const double bytes = workload.rows_per_step * static_cast<double>(wire_.per_stage_boundary);
  // One message in, one out.
  return neighbours_.stages_on_other_hosts ? 2 * (rates_.network_latency_s + bytes / network_bytes_per_s_)
                                           : 2 * (rates_.host_latency_s + bytes / rates_.host_bytes_per_s);
}

std::vector<double> CostModel::layer_seconds(const Workload& workload) const {
  std::vector<double> result;
  for (int64_t i = 0; i < memory_.num_layers(); ++i) {
    const LayerBytes& bytes = memory_.layer(i);
    double layer = seconds(bytes, work_[static_cast<size_t>(i)], workload);
    if (bytes.num_experts > 0) layer += exchange_seconds(workload.rows_per_step);
    result.push_back(layer);
  }
  LayerBytes head;
  head.shared_weights = memory_.head_bytes();
  result.push_back(seconds(head, work_.back(), workload));
  // The embedding copies a row a token: next to nothing, but not nothing.
  result.push_back(rates_.layer_overhead_s);
  return result;
}

StageCosts::StageCosts(const CostModel& costs, const Workload& workload) {
  const std::vector<double> terms = costs.layer_seconds(workload);
  const size_t num_layers = terms.size() - 2;
  before_.push_back(0);
  for (size_t i = 0; i < num_layers; ++i) before_.push_back(before_.back() + terms[i]);
  head_ = terms[num_layers];
  embedding_ = terms[num_layers + 1];
  boundary_ = costs.boundary_seconds(workload);
}

double StageCosts::seconds(LayerRange stage) const {
  const auto begin = static_cast<size_t>(stage.begin), end = static_cast<size_t>(stage.end);
  double sum = boundary_ + before_[end] - before_[begin];
  if (begin == 0) sum += embedding_;
  if (end + 1 == before_.size()) sum += head_;
  return sum;
}

}  // namespace nemo::dist
