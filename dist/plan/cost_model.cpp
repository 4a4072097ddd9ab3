#include "dist/plan/cost_model.h"

#include <algorithm>
#include <cmath>

#include "lib/weights/tensor_names.h"

namespace nemo::dist {
namespace {

constexpr double kFlopsPerKey = 4;  // a product and a sum for the score, and the same for the value
// A layer's exchange is three rounds: counts, rows there, sums back.
constexpr double kExchangeRounds = 3;

/// base^exponent by squaring: std::pow may differ in the last bit between hosts.
double power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent /= 2, base *= base)
    if (exponent % 2 == 1) result *= base;
  return result;
}

bool is_matrix(const TensorSpec& spec) {
  return spec.shape.size() >= 2 && (spec.keep == Keep::kJobDType || spec.role == TensorRole::kRouter);
}

void add_weights(const ModelConfig& model, int64_t layer_idx, kernels::DType dtype, LayerWork& work) {
  for (const TensorSpec& spec : layer_tensors(model, layer_idx)) {
    if (!is_matrix(spec)) continue;
    const auto format = static_cast<size_t>(format_in_memory(model, spec, layer_idx, dtype));
    const auto elements = static_cast<double>(spec.num_elements());
    if (spec.split == Split::kByExpert) {
      work.expert[format] += elements / static_cast<double>(spec.shape[0]);
    } else {
      work.shared[format] += elements;
    }
  }
}

/// Norm before and residual after the mixer are of every kind; kernels are counted in lib/model.
void add_kind(const ModelConfig& model, const LayerConfig& layer, LayerWork& work) {
  const auto hidden = static_cast<double>(model.hidden_size);
  work.elements = 2 * hidden;
  switch (layer.kind) {
    case LayerKind::kMamba:
      work.state_elements = static_cast<double>(model.mamba_inner_size() * model.ssm_state_size);
      work.num_calls = 9;
      return;
    case LayerKind::kAttention:
      work.context_flops = kFlopsPerKey * static_cast<double>(model.num_attention_heads * model.head_dim);
      work.num_calls = 12;
      return;
    case LayerKind::kMlp:
      work.elements += static_cast<double>(layer.intermediate_size);
      work.num_calls = 7;
      return;
    case LayerKind::kMoe:
      work.elements += static_cast<double>(layer.shared_intermediate_size) + 2 * hidden;
      work.pair_elements = static_cast<double>(layer.moe_intermediate_size + 2 * model.expert_io_size(layer));
      work.top_k = static_cast<double>(layer.num_experts_per_tok);
      work.num_experts = static_cast<double>(layer.n_routed_experts);
      work.num_calls = 22;
      return;
  }
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

Workload decode_workload(int64_t num_sequences, int64_t num_stages, double mean_context) {
  const double rows = std::max(1.0, static_cast<double>(num_sequences) / static_cast<double>(num_stages));
  return {.sequences_per_step = rows, .logit_rows_per_step = rows, .mean_context = mean_context};
}

std::vector<LayerWork> model_work(const ModelConfig& model, kernels::DType dtype) {
  std::vector<LayerWork> result;
  for (int64_t i = 0; i < model.num_layers(); ++i) {
    LayerWork& work = result.emplace_back();
    add_weights(model, i, dtype, work);
    add_kind(model, model.layers[static_cast<size_t>(i)], work);
  }
  LayerWork& head = result.emplace_back();
  head.shared[static_cast<size_t>(head_format_in_memory(model, dtype))] =
      static_cast<double>(model.vocab_size * model.hidden_size);
  head.elements = static_cast<double>(model.hidden_size);
  head.logits = static_cast<double>(model.vocab_size);
  head.num_calls = 5;
  return result;
}

double busiest_lane(double rows, double top_k, double num_experts, int64_t num_lanes) {
  if (num_lanes == 1) return 1;
  double logarithm = 0;
  for (int64_t i = 2; i <= num_lanes; ++i) logarithm += 1 / static_cast<double>(i);
  const double lanes = static_cast<double>(num_lanes);
  const double variance =  // of a lane's share
      (lanes - 1) / (rows * top_k) * (num_experts - top_k) / (num_experts - 1);
  return std::min(lanes, 1 + std::sqrt(2 * logarithm * variance));
}

StepTime& StepTime::operator+=(const StepTime& other) {
  for (size_t i = 0; i < kNumResources; ++i) seconds[i] += other.seconds[i];
  return *this;
}

double StepTime::total() const {
  double sum = 0;
  for (const double part : seconds) sum += part;
  return sum;
}

double StepTime::occupied() const {
  const double transfer = (*this)[Resource::kTransfer];
  return std::max(total() - transfer, transfer);
}

double StepTime::computing() const {
  StepTime rest = *this;
  rest[Resource::kExchange] = rest[Resource::kTransfer] = 0;
  return rest.total();
}

Resource StepTime::largest() const {
  return static_cast<Resource>(std::max_element(seconds.begin(), seconds.end()) - seconds.begin());
}

CostModel::CostModel(const std::vector<LayerWork>& work, const MemoryModel& memory, const WireBytes& wire,
                     const Layout& layout, const Machine& machine, int64_t threads, double busy_stages,
                     const Rates& rates)
    : work_(work),
      memory_(memory),
      wire_(wire),
      layout_(layout),
      ranks_per_host_(machine.ranks_per_host),
      cores_of_host_(static_cast<double>(machine.cores_per_host())),
      cores_of_rank_(std::min(static_cast<double>(threads), cores_of_host_)),
      host_(rates.host.host_message),
      network_(rates.network),
      neighbours_(neighbourhood(layout, machine.ranks_per_host)) {
  const auto ranks_here = static_cast<double>(std::min(machine.ranks_per_host, machine.num_ranks));
  rates_ = rates_of_rank(rates.host,
                         {.threads = threads,
                          .busy_ranks = ranks_here * busy_stages / static_cast<double>(layout.pipeline),
                          .cores_per_host = machine.cores_per_host()});
  network_.bytes_per_s /= ranks_here;
}

/// A product takes its curve's time, of which reading is what the memory's bandwidth alone would take.
void CostModel::add_products(const WeightsByFormat& weights, double copies, double rows,
                             const std::array<ProductCurve, kNumWeightFormats>& curves,
                             StepTime& time) const {
  for (size_t i = 0; i < kNumWeightFormats; ++i) {
    if (weights[i] == 0) continue;
    const double bytes = weights[i] * bytes_per_weight(static_cast<kernels::WeightFormat>(i));
    const double seconds = copies * weights[i] * curves[i].at(rows);
    const double read = std::min(seconds, copies * bytes / rates_[Rate::kReadBytes]);
    time[Resource::kWeights] += read;
    time[Resource::kArithmetic] += seconds - read;
  }
}

void CostModel::add_experts(const LayerBytes& bytes, const LayerWork& work, double rows,
                            StepTime& time) const {
  const kernels::ExpertRange largest = expert_block(bytes.num_experts, layout_.expert, 0);
  const double here = static_cast<double>(largest.end - largest.begin);
  const double all_rows = rows * static_cast<double>(layout_.expert);
  // An expert's weights are read once if any row chose it.
  const double share = busiest_lane(all_rows, work.top_k, work.num_experts, layout_.expert);
  const double chance = std::min(1.0, share * work.top_k / work.num_experts);
  const double untouched = power(1 - chance, std::max<int64_t>(1, static_cast<int64_t>(all_rows)));
  const double touched = here * (1 - untouched);
  const double pairs = all_rows * chance * here;
  add_products(work.expert, touched, std::max(1.0, pairs / touched), rates_.experts, time);
  time[Resource::kArithmetic] += pairs * work.pair_elements / rates_[Rate::kElements] +
                                 rows * work.num_experts / rates_[Rate::kRouterScores];
}

void CostModel::add_sequences(const LayerBytes& bytes, const LayerWork& work, const Workload& workload,
                              StepTime& time) const {
  const bool is_decode = workload.is_decode();
  const Resource resource = is_decode ? Resource::kSequences : Resource::kArithmetic;
  const Rate scan = is_decode ? Rate::kScanDecode : Rate::kScanPrefill;
  time[resource] += workload.rows() * work.state_elements / rates_[scan];
  const Rate attention = !is_decode                                       ? Rate::kAttentionPrefill
                         : memory_.kv_format() == kernels::KvFormat::kFp8 ? Rate::kAttentionDecodeFp8
                                                                          : Rate::kAttentionDecode;
  const double computed = workload.rows() * workload.mean_context * work.context_flops / rates_[attention];
  const double read = workload.sequences_per_step * workload.mean_context *
                      static_cast<double>(bytes.kv_per_token) / rates_[Rate::kReadBytes];
  time[resource] += std::max(computed, read);
}

StepTime CostModel::layer_time(const LayerBytes& bytes, const LayerWork& work,
                               const Workload& workload) const {
  const double rows = workload.rows();
  StepTime time;
  add_products(work.shared, 1, rows, rates_.products, time);
  if (bytes.num_experts > 0) add_experts(bytes, work, rows, time);
  add_sequences(bytes, work, workload, time);
  time[Resource::kArithmetic] += rows * work.elements / rates_[Rate::kElements];
  time[Resource::kCalls] += work.num_calls / rates_[Rate::kCalls];
  return time;
}

StepTime CostModel::head_time(const Workload& workload) const {
  const LayerWork& work = work_.back();
  const double rows = workload.logit_rows_per_step;
  const double often = std::min(1.0, rows);  // a head that is not wanted is not read
  StepTime time;
  add_products(work.shared, often, std::max(1.0, rows), rates_.products, time);
  time[Resource::kArithmetic] +=
      rows * (work.elements / rates_[Rate::kElements] + work.logits / rates_[Rate::kLogits]);
  time[Resource::kCalls] += often * work.num_calls / rates_[Rate::kCalls];
  return time;
}

double CostModel::exchange_seconds(double rows) const {
  if (layout_.expert == 1) return 0;
  const double others = static_cast<double>(layout_.expert - 1);
  const double remote = static_cast<double>(neighbours_.lanes_on_other_hosts);
  const double messages = (others - remote) * host_.latency_s + remote * network_.latency_s;
  const double bytes = rows * (wire_.dispatch_per_moe_layer + wire_.combine_per_moe_layer);
  return kExchangeRounds * messages + bytes * (others - remote) / others / host_.bytes_per_s +
         bytes * remote / others / network_.bytes_per_s;
}

StepTime CostModel::boundary_time(const Workload& workload) const {
  StepTime time;
  if (layout_.pipeline == 1) return time;
  const double bytes = workload.rows() * static_cast<double>(wire_.per_stage_boundary);
  const MessageCost& message = neighbours_.stages_on_other_hosts ? network_ : host_;
  time[Resource::kTransfer] = message.latency_s + bytes / message.bytes_per_s;
  return time;
}

std::vector<StepTime> CostModel::layer_times(const Workload& workload) const {
  std::vector<StepTime> result;
  for (int64_t i = 0; i < memory_.num_layers(); ++i) {
    const LayerBytes& bytes = memory_.layer(i);
    StepTime& time = result.emplace_back(layer_time(bytes, work_[static_cast<size_t>(i)], workload));
    if (bytes.num_experts > 0) time[Resource::kExchange] += exchange_seconds(workload.rows());
  }
  result.push_back(head_time(workload));
  // The embedding copies a row a token: next to nothing, but not nothing.
  StepTime embedding;
  embedding[Resource::kCalls] = 1 / rates_[Rate::kCalls];
  result.push_back(embedding);
  return result;
}

/// What the busiest host takes until each of its ranks has computed a step, all cores at work; ranks fill the
/// hosts in order. 0 where every rank has its own cores.
double CostModel::turns_seconds(const std::vector<StepTime>& stages) const {
  const int64_t num_ranks = layout_.num_ranks();
  const double wanted = cores_of_rank_ * static_cast<double>(std::min(ranks_per_host_, num_ranks));
  if (wanted <= cores_of_host_) return 0;
  double longest = 0;
  for (int64_t first = 0; first < num_ranks; first += ranks_per_host_) {
    double sum = 0;
    for (int64_t rank = first; rank < std::min(first + ranks_per_host_, num_ranks); ++rank)
      sum += stages[static_cast<size_t>(rank / layout_.expert % layout_.pipeline)].computing();
    longest = std::max(longest, sum);
  }
  return longest * cores_of_rank_ / cores_of_host_;
}

StepInterval CostModel::step_interval(const std::vector<StepTime>& stages, double num_in_flight) const {
  double sum = 0, slowest = 0;
  for (const StepTime& stage : stages) {
    sum += stage.total();
    slowest = std::max(slowest, stage.occupied());
  }
  const bool too_few = num_in_flight < static_cast<double>(stages.size());
  StepInterval longest{.seconds = slowest, .limit = Limit::kSlowestStage};
  for (const StepInterval& other : {StepInterval{too_few ? sum / num_in_flight : 0, Limit::kStepsAtOnce},
                                    StepInterval{turns_seconds(stages), Limit::kCores}})
    if (other.seconds > longest.seconds) longest = other;
  return longest;
}

StageCosts::StageCosts(const CostModel& costs, const Workload& workload)
    : layers_(costs.layer_times(workload)), boundary_(costs.boundary_time(workload)) {
  embedding_ = layers_.back();
  layers_.pop_back();
  head_ = layers_.back();
  layers_.pop_back();
  before_.push_back(0);
  for (const StepTime& layer : layers_) before_.push_back(before_.back() + layer.total());
}

double StageCosts::seconds(LayerRange stage) const {
  const auto begin = static_cast<size_t>(stage.begin), end = static_cast<size_t>(stage.end);
  double sum = boundary_.total() + before_[end] - before_[begin];
  if (begin == 0) sum += embedding_.total();
  if (end == layers_.size()) sum += head_.total();
  return sum;
}

StepTime StageCosts::time(LayerRange stage) const {
  StepTime sum = stage.begin == 0 ? StepTime{} : boundary_;
  for (auto i = static_cast<size_t>(stage.begin); i < static_cast<size_t>(stage.end); ++i) sum += layers_[i];
  if (stage.begin == 0) sum += embedding_;
  if (static_cast<size_t>(stage.end) == layers_.size()) sum += head_;
  return sum;
}

}  // namespace nemo::dist
