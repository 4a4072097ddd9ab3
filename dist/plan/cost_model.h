// How long a step takes on a stage, part by part: matrix products at the speed that their number of rows
// allows, what sequences keep (KV pages, Mamba states), rows touched by norms and activations, starts of
// kernels, and what messages wait for. The rates are measured or assumed (dist/plan/calibration.h). Layouts
// are chosen by assumed ones, everywhere and always: a job's layout must not depend on a file of the host it
// starts on.
//
// A rank's step is timed as if it had a core for each of its threads. Where a host has fewer, ranks compute
// in turns, and a rank that waits for another leaves its core to a third: what its cores can do bounds how
// often all of them take a step (CostModel::step_interval), not how long one rank's step takes.
//
// Only +, -, *, / and square roots, which IEEE 754 rounds correctly too, are used, so that every rank
// computes the same bits and so chooses the same layout.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dist/plan/calibration.h"
#include "dist/plan/memory.h"
#include "dist/plan/plan.h"
#include "lib/config/model_config.h"

namespace nemo::dist {

/// What a prediction computes with.
struct Rates {
  Calibration host = assumed_calibration();
  /// Between hosts; the bytes are those of one host, shared by its ranks.
  MessageCost network{.latency_s = 20e-6, .bytes_per_s = 2.5e9};
};

/// Where a layout's neighbours stand when ranks fill the hosts in order: worst case over the ranks.
struct Neighbourhood {
  int64_t lanes_on_other_hosts = 0;    ///< of the num_lanes - 1 others of a stage
  bool stages_on_other_hosts = false;  ///< a hidden state leaves its host
};
Neighbourhood neighbourhood(const Layout& layout, int64_t ranks_per_host);

/// What a lane's steps look like.
struct Workload {
  double sequences_per_step = 1;   ///< that have rows in a step
  double rows_per_sequence = 1;    ///< 1 when decoding
  double logit_rows_per_step = 1;  ///< that a token is drawn from; less than 1: not in every step
  double mean_context = 0;         ///< tokens that a row of attention sees

  double rows() const { return sequences_per_step * rows_per_sequence; }
  bool is_decode() const { return rows_per_sequence <= 1; }
};

/// Every sequence of a lane draws its next token, in as many steps as there are stages, or sequences if they
/// are fewer.
Workload decode_workload(int64_t num_sequences, int64_t num_stages, double mean_context);

/// Weights of matrices by the format they are kept in, kernels::WeightFormat.
using WeightsByFormat = std::array<double, kNumWeightFormats>;

/// What a row has to go through in a layer, besides LayerBytes in MemoryModel.
struct LayerWork {
  WeightsByFormat shared{};  ///< matrices of every row
  WeightsByFormat expert{};  ///< one routed expert
  double top_k = 0;
  double num_experts = 0;
  double elements = 0;        ///< touched by norms, activations and residuals
  double pair_elements = 0;   ///< the same for each expert a row has chosen
  double state_elements = 0;  ///< of Mamba
  double context_flops = 0;   ///< attention, for each token of context
  double logits = 0;          ///< of the head
  double num_calls = 0;       ///< kernels started, whatever the number of rows
};
/// By layer; one more for the head. `dtype`: of matrices that are not quantized.
std::vector<LayerWork> model_work(const ModelConfig& model, kernels::DType dtype);

/// How many routed rows the busiest of a layer's lanes gets, divided by the mean over the lanes, where every
/// row of `rows` chooses `top_k` different experts at random; lanes hold equally many. All lanes wait for it.
///
/// A lane's number of routed rows is a sum of hypergeometric ones, of variance v = rows * top_k * p * (1 - p)
/// * (num_experts - top_k) / (num_experts - 1), p = 1 / num_lanes, and the expected maximum of so many is at
/// most sqrt(2 v ln(num_lanes)) above the mean (Boucheron, Lugosi, Massart: Concentration Inequalities,
/// theorem 2.5). The logarithm is 1/2 + 1/3 + ... + 1/num_lanes here, which is less: the bound is not tight,
/// and this comes closer to what normal numbers of a fixed sum do, by 16 to 25 % for 2 to 64 lanes.
double busiest_lane(double rows, double top_k, double num_experts, int64_t num_lanes);

/// What a step's time goes into.
enum class Resource : uint8_t {
  kWeights,     ///< reading weights from memory
  kArithmetic,  ///< computing
  kSequences,   ///< reading and writing KV pages and Mamba states
  kCalls,       ///< starting kernels
  kExchange,    ///< routed tokens between lanes
  kTransfer,    ///< hidden states between stages
};
inline constexpr size_t kNumResources = static_cast<size_t>(Resource::kTransfer) + 1;

/// Seconds by resource.
struct StepTime {
  std::array<double, kNumResources> seconds{};
  double& operator[](Resource resource) { return seconds[static_cast<size_t>(resource)]; }
  double operator[](Resource resource) const { return seconds[static_cast<size_t>(resource)]; }
  StepTime& operator+=(const StepTime& other);
  double total() const;
  /// For so long no other step of the lane can begin on its stage: its transfer is on its way while the stage
  /// computes the step before.
  double occupied() const;
  /// Without what messages take: for so long a rank needs its cores.
  double computing() const;
  Resource largest() const;
};

/// Why a lane takes no more steps a second.
enum class Limit : uint8_t {
  kSlowestStage,  ///< a stage does one step at a time
  kStepsAtOnce,   ///< each passes every stage, and there are too few of them to keep all stages busy
  kCores,         ///< ranks of a host compute in turns
};

/// Between a lane's steps.
struct StepInterval {
  double seconds = 0;
  Limit limit = Limit::kSlowestStage;
};

class CostModel {
 public:
  /// Borrows `work` and `memory`. `busy_stages` of the layout have a step at the same time.
  CostModel(const std::vector<LayerWork>& work, const MemoryModel& memory, const WireBytes& wire,
            const Layout& layout, const Machine& machine, int64_t threads, double busy_stages,
            const Rates& rates);

  /// One step in each layer, its exchange included; then in norm and head; then in the embedding.
  std::vector<StepTime> layer_times(const Workload& workload) const;

  /// Until a step's rows have come from the stage before.
  StepTime boundary_time(const Workload& workload) const;

  /// With so many steps of a lane under way, from what a step takes on each stage.
  StepInterval step_interval(const std::vector<StepTime>& stages, double num_in_flight) const;

 private:
  StepTime layer_time(const LayerBytes& bytes, const LayerWork& work, const Workload& workload) const;
  void add_products(const WeightsByFormat& weights, double copies, double rows,
                    const std::array<ProductCurve, kNumWeightFormats>& curves, StepTime& time) const;
  void add_experts(const LayerBytes& bytes, const LayerWork& work, double rows, StepTime& time) const;
  void add_sequences(const LayerBytes& bytes, const LayerWork& work, const Workload& workload,
                     StepTime& time) const;
  StepTime head_time(const Workload& workload) const;
  double exchange_seconds(double rows) const;
  double turns_seconds(const std::vector<StepTime>& stages) const;

  const std::vector<LayerWork>& work_;
  const MemoryModel& memory_;
  WireBytes wire_;
  Layout layout_;
  int64_t ranks_per_host_;
  double cores_of_host_, cores_of_rank_;
  KernelRates rates_;
  MessageCost host_;
  MessageCost network_;  ///< a rank's share
  Neighbourhood neighbours_;
};

/// Sums of CostModel's terms over a stage.
class StageCosts {
 public:
  StageCosts(const CostModel& costs, const Workload& workload);
  /// As if the first stage waited for a transfer too, so that it only grows with the range.
  double seconds(LayerRange stage) const;
  StepTime time(LayerRange stage) const;

 private:
  std::vector<StepTime> layers_;
  std::vector<double> before_;  ///< sums over layers [0, i)
  StepTime head_, embedding_, boundary_;
};

}  // namespace nemo::dist
