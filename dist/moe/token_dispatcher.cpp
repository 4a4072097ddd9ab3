#include "dist/moe/token_dispatcher.h"

#include <algorithm>
#include <cstring>

#include "dist/moe/dispatch_message.h"
#include "lib/model/mixers.h"

namespace nemo::dist {

using kernels::ExpertRange;
using kernels::TensorView;

namespace {

/// The ids of `row`'s chosen experts that lie in `block`; ids rise, so they are a run.
std::span<const int32_t> ids_in_block(TensorView<const int32_t> expert_ids, int64_t row,
                                      const ExpertRange& block) {
  const int32_t* begin = expert_ids.row(row);
  const int32_t* end = begin + expert_ids.cols;
  const int32_t* first = std::lower_bound(begin, end, static_cast<int32_t>(block.begin));
  const int32_t* last = std::lower_bound(first, end, static_cast<int32_t>(block.end));
  return {first, last};
}

size_t bytes_of_rows(int64_t rows, int64_t width) {
  return static_cast<size_t>(rows * width) * sizeof(float);
}

}  // namespace

ExpertSplit ExpertSplit::make(std::vector<ExpertRange> blocks, int64_t num_experts) {
  ExpertSplit split;
  for (const ExpertRange& block : blocks)
    split.subtrees.push_back(kernels::maximal_subtrees(block, num_experts));
  split.blocks = std::move(blocks);
  return split;
}

TokenDispatcher::Handle TokenDispatcher::dispatch(const Step& step, const ExpertSplit& split,
                                                  TensorView<const float> x, const RoutedTokens& routed) {
  Handle handle;
  handle.expert_ids = routed.expert_ids;
  handle.row_width = x.cols;
  for (int lane = 0; lane < lanes_.size(); ++lane) {
    DispatchWriter writer;
    for (int64_t row = 0; row < x.rows; ++row) {
      const auto ids = ids_in_block(routed.expert_ids, row, split.blocks[static_cast<size_t>(lane)]);
      if (ids.empty()) continue;
      const float* weights = routed.weights.row(row) + (ids.data() - routed.expert_ids.row(row));
      writer.add(static_cast<int32_t>(row), ids, {weights, ids.size()});
    }
    std::string bytes = writer.finish(x, step.context.dtype);
    if (lane == lanes_.rank()) {
      handle.own_rows = std::move(bytes);
    } else {
      lanes_.post(lane, Tag::kDispatch, std::move(bytes));
    }
  }
  return handle;
}

ExpertRows TokenDispatcher::receive(const Step& step, Handle& handle) {
  std::vector<std::string> messages(static_cast<size_t>(lanes_.size()));
  std::vector<DispatchReader> readers;
  int64_t num_rows = 0, num_pairs = 0;
  for (int lane = 0; lane < lanes_.size(); ++lane) {
    std::string& message = messages[static_cast<size_t>(lane)];
    message = lane == lanes_.rank() ? std::move(handle.own_rows)
                                    : lanes_.receive(lane, Tag::kDispatch, "routed rows");
    readers.emplace_back(message, handle.row_width, step.context.dtype);
    handle.received_rows.push_back(readers.back().num_rows);
    num_rows += readers.back().num_rows;
    num_pairs += readers.back().num_pairs;
  }
  auto rows = step.workspace.tensor<float>(num_rows, handle.row_width);
  auto offsets = step.workspace.array<int64_t>(num_rows + 1);
  auto expert_ids = step.workspace.array<int32_t>(num_pairs);
  auto weights = step.workspace.array<float>(num_pairs);
  int64_t row = 0, pair = 0;
  for (const DispatchReader& reader : readers) {
    const auto pair_bytes = static_cast<size_t>(4 * reader.num_pairs);
    std::memcpy(expert_ids.data() + pair, reader.expert_ids, pair_bytes);
    std::memcpy(weights.data() + pair, reader.weights, pair_bytes);
    for (int64_t i = 0; i < reader.num_rows; ++i) {
      int32_t row_pairs = 0;
      std::memcpy(&row_pairs, reader.pairs + 4 * i, sizeof(row_pairs));
      offsets[row] = pair;
      reader.read_row(i, rows.row(row++));
      pair += row_pairs;
    }
  }
  offsets[num_rows] = num_pairs;
  NEMO_CHECK(pair == num_pairs, "pairs of a dispatch message do not add up");
  return {.rows = rows, .offsets = offsets, .expert_ids = expert_ids, .weights = weights};
}

TensorView<const float> TokenDispatcher::send_home(const ExpertSplit& split, const Handle& handle,
                                                   const ExpertRows& received,
                                                   TensorView<const float> roots) {
  const auto& subtrees = split.subtrees[static_cast<size_t>(lanes_.rank())];
  TensorView<const float> own;
  int64_t row = 0, root = 0;
  for (int lane = 0; lane < lanes_.size(); ++lane) {
    const int64_t first_root = root;
    for (int64_t i = 0; i < handle.received_rows[static_cast<size_t>(lane)]; ++i)
      root += count_roots(subtrees, received.ids_of(row++));
    const auto slice = roots.slice_rows(first_root, root - first_root);
    if (lane == lanes_.rank()) {
      own = slice;
    } else {
      lanes_.post(
          lane, Tag::kCombine,
          std::string(reinterpret_cast<const char*>(slice.data), bytes_of_rows(slice.rows, slice.cols)));
    }
  }
  return own;
}

TensorView<const float> TokenDispatcher::gather_roots(const Step& step, std::span<const int64_t> begins,
                                                      int64_t row_width, TensorView<const float> own) {
  auto gathered = step.workspace.tensor<float>(begins.back(), row_width);
  for (int lane = 0; lane < lanes_.size(); ++lane) {
    const int64_t begin = begins[static_cast<size_t>(lane)];
    const size_t bytes = bytes_of_rows(begins[static_cast<size_t>(lane) + 1] - begin, row_width);
    if (lane == lanes_.rank()) {
      NEMO_CHECK(bytes_of_rows(own.rows, row_width) == bytes, "roots of our own rows");
      if (bytes > 0) std::memcpy(gathered.row(begin), own.data, bytes);
      continue;
    }
    const std::string message = lanes_.receive(lane, Tag::kCombine, "expert sums");
    if (message.size() != bytes)
      throw Error("expert sums of rank " + std::to_string(lanes_.world_rank(lane)),
                  std::to_string(message.size()) + " bytes where " + std::to_string(bytes) + " were due",
                  "all ranks must run the same build of nemo-dist");
    if (bytes > 0) std::memcpy(gathered.row(begin), message.data(), bytes);
  }
  return gathered;
}

TensorView<const float> TokenDispatcher::combine(const Step& step, const ExpertSplit& split, Handle handle,
                                                 const ExpertRows& received, TensorView<const float> roots) {
  const auto own = send_home(split, handle, received, roots);
  const int64_t num_rows = handle.expert_ids.rows;
  const size_t num_lanes = split.blocks.size();
  std::vector<int64_t> begins(num_lanes + 1, 0);
  for (size_t lane = 0; lane < num_lanes; ++lane) {
    begins[lane + 1] = begins[lane];
    for (int64_t row = 0; row < num_rows; ++row)
      begins[lane + 1] +=
          count_roots(split.subtrees[lane], ids_in_block(handle.expert_ids, row, split.blocks[lane]));
  }
  const auto gathered = gather_roots(step, begins, handle.row_width, own);

  // Add the roots along the rest of the tree. Lanes and subtrees rise, so each row's terms do.
  auto terms = step.workspace.array<kernels::TreeTerm>(begins.back());
  auto offsets = step.workspace.array<int64_t>(num_rows + 1);
  std::vector<int64_t> next = begins;
  int64_t term = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    offsets[row] = term;
    for (size_t lane = 0; lane < num_lanes; ++lane) {
      for_each_root(split.subtrees[lane], ids_in_block(handle.expert_ids, row, split.blocks[lane]),
                    [&](const ExpertRange& subtree, std::span<const int32_t>) {
                      terms[term++] = {.position = static_cast<int32_t>(subtree.begin),
                                       .input_row = static_cast<int32_t>(next[lane]++),
                                       .weight = 1.0f};
                    });
    }
  }
  offsets[num_rows] = term;
  auto sums = step.workspace.tensor<float>(num_rows, handle.row_width);
  kernels::tree_sum(step.context, gathered, terms, offsets, sums);
  return sums;
}

void distributed_moe(const Step& step, TokenDispatcher& dispatcher, const ExpertSplit& split,
                     const LayerConfig& config, const MoeLayer& layer, TensorView<const float> x,
                     TensorView<float> y) {
  Workspace::Frame frame(step.workspace);
  const RoutedTokens routed = route_tokens(step, config, layer, x);
  TokenDispatcher::Handle handle = dispatcher.dispatch(step, split, expert_input(step, layer, x), routed);
  // The shared expert is computed here, while the rows travel.
  TensorView<float> shared;
  if (layer.shared) {
    shared = step.workspace.tensor<float>(x.rows, x.cols);
    mlp_mixer(step, *layer.shared, x, shared);
  }
  const ExpertRows received = dispatcher.receive(step, handle);
  const size_t me = static_cast<size_t>(dispatcher.lane());
  const auto roots = expert_partial_sums(step, layer, split.subtrees[me], received);
  const auto sums = dispatcher.combine(step, split, std::move(handle), received, roots);
  finish_moe(step, layer, sums, shared, y);
}

}  // namespace nemo::dist
