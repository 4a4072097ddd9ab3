// TokenDispatcher: takes every row to the ranks of its stage that own its chosen experts, and brings the sums
// back.
//
// One message per pair of ranks and direction. A row goes once to each rank that owns any of its experts,
// however many; the answer is the root of its partial sum along the expert tree (kernels/ops/tree_sum.h): one
// vector a (row, rank) where blocks of experts are aligned powers of two. So a row's result does not depend
// on how experts are split.
//
// Sums are computed where MPI sends them from and received where they are added. Within a host Open MPI's
// shared memory takes a large message over in one copy, straight from the other process (CMA), so there is no
// copy beside it. exchange-bench, 2 ranks, rows of 1024, top 22 of 512 experts: 0.05 ms for 16 rows a rank
// and 4 ms for 1024; with copies through a buffer (btl_vader_single_copy_mechanism none) 0.09 and 12. A
// window of our own in shared memory got 0.03 and 4: not worth a second transport with deadlines of its own.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "dist/comm/communicator.h"
#include "dist/moe/dispatch_message.h"
#include "lib/model/moe.h"

namespace nemo::dist {

/// How one layer's routed experts lie on the lanes of a stage.
struct ExpertSplit {
  std::vector<kernels::ExpertRange> blocks;                 ///< by lane, contiguous
  std::vector<std::vector<kernels::ExpertRange>> subtrees;  ///< by lane: maximal subtrees of its block

  static ExpertSplit make(std::vector<kernels::ExpertRange> blocks, int64_t num_experts);
};

/// What the exchanges of this rank were, since its start.
struct ExchangeCounters {
  int64_t copies = 0;  ///< of this lane's rows, sent to other ranks, over all layers
  /// From posting until everything due is here, over dispatches and combines ...
  std::chrono::nanoseconds in_flight{0};
  std::chrono::nanoseconds waiting{0};  ///< ... and how much of it this rank had nothing else to do
};

class TokenDispatcher {
 public:
  /// `lanes` are the ranks of one stage in lane order; it must outlive the dispatcher.
  explicit TokenDispatcher(Communicator& lanes) : lanes_(lanes) {}

  int lane() const { return lanes_.rank(); }
  const ExchangeCounters& counters() const { return counters_; }

  /// What the later verbs need to know of a dispatch. Move-only; each dispatch is received, sent home and
  /// combined once, in this order.
  struct Handle {
    Handle() = default;
    Handle(Handle&&) = default;
    Handle& operator=(Handle&&) = default;

    const ExpertSplit* split = nullptr;             ///< the caller's
    kernels::TensorView<const float> x;             ///< [T, X], the caller's
    kernels::TensorView<const int32_t> expert_ids;  ///< [T, top_k], the caller's
    DispatchWriter own;                             ///< our rows that stay here
    std::vector<int64_t> ends_of_rows;   ///< by other lane: where its rows end among the received ones
    std::vector<int64_t> ends_of_roots;  ///< likewise of their roots in roots_of_others
    std::vector<int64_t> roots_there;    ///< by lane: roots of our rows for its block, also our own
    /// Neighbours in memory, and those of our own rows for our own block come first of ours: so what is
    /// computed here is one tensor, and so is what is added up.
    kernels::TensorView<float> roots_of_others, roots_of_ours;
    std::chrono::steady_clock::time_point posted;
  };

  /// Posts the rows x [T, X] (exact in the job's dtype) with their choices. Every lane of the stage must call
  /// this for every step and layer, with T = 0 if it has no rows.
  Handle dispatch(const Step& step, const ExpertSplit& split, kernels::TensorView<const float> x,
                  const RoutedTokens& routed);

  /// Lets messages move on. Never waits; called between pieces of work.
  void progress() { lanes_.progress(Tag::kDispatch); }

  /// Everybody's rows for our block of experts, and where their roots are to be written (as
  /// expert_partial_sums does). In the step's workspace.
  struct Received {
    ExpertRows rows;
    kernels::TensorView<float> roots;
  };
  /// Waits for them.
  Received receive(const Step& step, Handle& handle);

  /// Posts the roots of others' rows, which have been computed.
  void send_home(Handle& handle);

  /// Waits for the roots of our rows and adds them. Returns [T, X], in the step's workspace.
  kernels::TensorView<const float> combine(const Step& step, Handle handle);

 private:
  /// Calls visit(lane) for every other lane, each rank beginning with another one: the order of "other lanes"
  /// everywhere here.
  template <class Visit>
  void for_each_other(Visit&& visit) const {
    for (int i = 1; i < lanes_.size(); ++i) visit((lanes_.rank() + i) % lanes_.size());
  }
  /// Makes room for the roots, those of our rows from other lanes being received into it from now on.
  /// Returns the part that is computed here.
  kernels::TensorView<float> expect_roots(const Step& step, Handle& handle, const ExpertRows& rows);
  void count_flight(const Handle& handle, std::chrono::steady_clock::time_point began_waiting);

  Communicator& lanes_;
  ExchangeCounters counters_;
};

/// A mixture-of-experts layer whose routed experts are spread over the lanes of a stage. Arguments as
/// moe_mixer. The shared expert is computed while rows and sums travel.
void distributed_moe(const Step& step, TokenDispatcher& dispatcher, const ExpertSplit& split,
                     const LayerConfig& config, const MoeLayer& layer, kernels::TensorView<const float> x,
                     kernels::TensorView<float> y);

}  // namespace nemo::dist
