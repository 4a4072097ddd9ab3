// TokenDispatcher: takes every row to the ranks of its stage that own its chosen experts, and brings the sums
// back.
//
// One message per pair of ranks and direction. A row goes once to each rank that owns any of its experts,
// however many; the answer is the root of its partial sum along the expert tree (kernels/ops/tree_sum.h): one
// vector a (row, rank) where blocks of experts are aligned powers of two. So a row's result does not depend
// on how experts are split.
#pragma once

#include <string>
#include <vector>

#include "dist/comm/communicator.h"
#include "lib/model/moe.h"

namespace nemo::dist {

/// How one layer's routed experts lie on the lanes of a stage.
struct ExpertSplit {
  std::vector<kernels::ExpertRange> blocks;                 ///< by lane, contiguous
  std::vector<std::vector<kernels::ExpertRange>> subtrees;  ///< by lane: maximal subtrees of its block

  static ExpertSplit make(std::vector<kernels::ExpertRange> blocks, int64_t num_experts);
};

class TokenDispatcher {
 public:
  /// `lanes` are the ranks of one stage in lane order; it must outlive the dispatcher.
  explicit TokenDispatcher(Communicator& lanes) : lanes_(lanes) {}

  int lane() const { return lanes_.rank(); }

  /// What combine needs to know of a dispatch. Move-only; each dispatch is combined once.
  struct Handle {
    Handle() = default;
    Handle(Handle&&) = default;
    Handle& operator=(Handle&&) = default;

    kernels::TensorView<const int32_t> expert_ids;  ///< [T, top_k], borrowed from the caller until combine
    int64_t row_width = 0;
    std::string own_rows;                ///< the message to ourselves
    std::vector<int64_t> received_rows;  ///< by lane: rows that came from there
  };

  /// Posts the rows x [T, X] (exact in the job's dtype) with their choices. Every lane of the stage must call
  /// this for every step and layer, with T = 0 if it has no rows.
  Handle dispatch(const Step& step, const ExpertSplit& split, kernels::TensorView<const float> x,
                  const RoutedTokens& routed);

  /// Waits for everybody's rows for our block of experts; they live in the step's workspace.
  ExpertRows receive(const Step& step, Handle& handle);

  /// Sends the roots of the received rows (as expert_partial_sums returns them) home and waits for ours.
  /// Returns [T, X], in the step's workspace.
  kernels::TensorView<const float> combine(const Step& step, const ExpertSplit& split, Handle handle,
                                           const ExpertRows& received,
                                           kernels::TensorView<const float> roots);

 private:
  /// Posts the roots of the rows that others sent; returns the slice of those of our own rows.
  kernels::TensorView<const float> send_home(const ExpertSplit& split, const Handle& handle,
                                             const ExpertRows& received,
                                             kernels::TensorView<const float> roots);
  /// The roots of our rows from all lanes in one tensor, lane after lane; begins[lane] is the first of a
  /// lane.
  kernels::TensorView<const float> gather_roots(const Step& step, std::span<const int64_t> begins,
                                                int64_t row_width, kernels::TensorView<const float> own);

  Communicator& lanes_;
};

/// A mixture-of-experts layer whose routed experts are spread over the lanes of a stage. Arguments as
/// moe_mixer.
void distributed_moe(const Step& step, TokenDispatcher& dispatcher, const ExpertSplit& split,
                     const LayerConfig& config, const MoeLayer& layer, kernels::TensorView<const float> x,
                     kernels::TensorView<float> y);

}  // namespace nemo::dist
