// How long one decode step takes on a stage: bytes over memory bandwidth plus operations over arithmetic rate
// plus what the exchange of routed tokens waits for. The rates are round numbers for a server of today, not
// measurements: they decide between layouts and balance stages, and --plan prints them beside every estimate.
//
// Only +, -, *, / are used, so that every rank computes the same bits and so chooses the same layout.
#pragma once

#include <cstdint>
#include <vector>

#include "dist/plan/memory.h"
#include "dist/plan/plan.h"
#include "lib/config/model_config.h"

namespace nemo::dist {

/// Assumed rates. Per core where named so; a message costs its latency and its bytes.
struct Rates {
  double core_bytes_per_s = 6e9;       ///< memory read by one core while all are busy
  double core_flops = 30e9;            ///< multiplications and additions in our matrix products
  double layer_overhead_s = 10e-6;     ///< starting a layer's ops on all threads
  double host_latency_s = 2e-6;        ///< a message within a host
  double host_bytes_per_s = 5e9;       ///< of one rank
  double network_latency_s = 20e-6;    ///< a message between hosts
  double network_bytes_per_s = 2.5e9;  ///< of one host, shared by its ranks
};

/// Where a layout's neighbours stand when ranks fill the hosts in order: worst case over the ranks.
struct Neighbourhood {
  int64_t lanes_on_other_hosts = 0;    ///< of the num_lanes - 1 others of a stage
  bool stages_on_other_hosts = false;  ///< a hidden state leaves its host
};
Neighbourhood neighbourhood(const Layout& layout, int64_t ranks_per_host);

/// What a job's steps look like.
struct Workload {
  double rows_per_step = 1;  ///< decoded tokens of a lane's micro-batch, one per sequence
  int64_t context = 0;       ///< tokens of a sequence when it ends
};

/// Work of a layer besides its bytes in MemoryModel.
struct LayerWork {
  double row_flops = 0;      ///< of one row, everything but routed experts
  double expert_flops = 0;   ///< of one row through one routed expert
  double context_flops = 0;  ///< attention, of one row and one token of context
  double top_k = 0;
};
/// By layer; one more for the head.
std::vector<LayerWork> model_work(const ModelConfig& model);

class CostModel {
 public:
  /// Borrows `work` and `memory`. `threads` of a rank really run at once: not more than its cores.
  CostModel(const std::vector<LayerWork>& work, const MemoryModel& memory, const WireBytes& wire,
            const Layout& layout, const Machine& machine, int64_t threads, const Rates& rates = {});

  /// Seconds of one step in each layer, its exchange included; then of norm and head; then of the embedding.
  std::vector<double> layer_seconds(const Workload& workload) const;

  /// Seconds a step spends on the transfers of a stage to its neighbours.
  double boundary_seconds(const Workload& workload) const;

 private:
  double seconds(const LayerBytes& bytes, const LayerWork& work, const Workload& workload) const;
  double exchange_seconds(double rows) const;

  const std::vector<LayerWork>& work_;
  const MemoryModel& memory_;
  WireBytes wire_;
  Layout layout_;
  Rates rates_;
  double bytes_per_s_;
  double flops_;
  double network_bytes_per_s_;
  Neighbourhood neighbours_;
};

/// Sums of CostModel's terms over a stage.
class StageCosts {
 public:
  StageCosts(const CostModel& costs, const Workload& workload);
  double seconds(LayerRange stage) const;

 private:
  std::vector<double> before_;  ///< sums over layers [0, i)
  double head_ = 0;
  double embedding_ = 0;
  double boundary_ = 0;
};

}  // namespace nemo::dist
