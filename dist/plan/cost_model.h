// How long a step takes on a stage, part by part: matrix products at the speed that their number of rows
// allows, what sequences keep (KV pages, Mamba states), rows touched by norms and activations, starts of
// kernels, and what messages wait for. The rates are measured or assumed (dist/plan/calibration.h). Layouts
// are chosen by assumed ones, everywhere and always: a job's layout must not depend on a file of the host it
// starts on.
//
// Only +, -, *, / are used, so that every rank computes the same bits and so chooses the same layout.
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
  Resource largest() const;
};

class CostModel {
 public:
  /// Borrows `work` and `memory`. `busy_stages` of the layout compute at the same time.
  CostModel(const std::vector<LayerWork>& work, const MemoryModel& memory, const WireBytes& wire,
            const Layout& layout, const Machine& machine, int64_t threads, double busy_stages,
            const Rates& rates);

  /// One step in each layer, its exchange included; then in norm and head; then in the embedding.
  std::vector<StepTime> layer_times(const Workload& workload) const;

  /// What a step spends on the transfers of a stage to its neighbours.
  StepTime boundary_time(const Workload& workload) const;

 private:
  StepTime layer_time(const LayerBytes& bytes, const LayerWork& work, const Workload& workload) const;
  void add_products(const WeightsByFormat& weights, double copies, double rows,
                    const std::array<ProductCurve, kNumWeightFormats>& curves, StepTime& time) const;
  void add_experts(const LayerBytes& bytes, const LayerWork& work, double rows, StepTime& time) const;
  void add_sequences(const LayerBytes& bytes, const LayerWork& work, const Workload& workload,
                     StepTime& time) const;
  StepTime head_time(const Workload& workload) const;
  double exchange_seconds(double rows) const;

  const std::vector<LayerWork>& work_;
  const MemoryModel& memory_;
  WireBytes wire_;
  Layout layout_;
  KernelRates rates_;
  MessageCost host_;
  MessageCost network_;  ///< a rank's share
  Neighbourhood neighbours_;
};

/// Sums of CostModel's terms over a stage.
class StageCosts {
 public:
  StageCosts(const CostModel& costs, const Workload& workload);
  double seconds(LayerRange stage) const;
  StepTime time(LayerRange stage) const;

 private:
  std::vector<StepTime> layers_;
  std::vector<double> before_;  ///< sums over layers [0, i)
  StepTime head_, embedding_, boundary_;
};

/// Steps a second of a lane with that many of them under way: each passes every stage, and a stage does one
/// at a time.
double steps_per_second(const std::vector<double>& stage_seconds, double num_in_flight);

}  // namespace nemo::dist
