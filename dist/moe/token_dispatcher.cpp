#include "dist/moe/token_dispatcher.h"

#include <algorithm>
#include <numeric>

#include "dist/comm/wire_rows.h"
#include "kernels/ops/elementwise.h"
#include "lib/model/mixers.h"

namespace nemo::dist {

using kernels::ExpertRange;
using kernels::TensorView;
using Clock = std::chrono::steady_clock;

namespace {

/// Calls visit(lane, ids) for each lane that owns experts chosen by the row, in rising order; ids rise, so
/// each lane's are a run.
template <class Visit>
void for_each_lane(const ExpertSplit& split, TensorView<const int32_t> expert_ids, int64_t row,
                   Visit&& visit) {
  const int32_t* begin = expert_ids.row(row);
  const int32_t* const end = begin + expert_ids.cols;
  for (size_t lane = 0; begin != end; ++lane) {
    const int32_t* const first = begin;
    while (begin != end && *begin < split.blocks[lane].end) ++begin;
    if (begin != first) visit(lane, std::span<const int32_t>(first, begin));
  }
}

/// x in the job's dtype, as bytes [T, bytes of a row].
TensorView<const std::byte> as_it_travels(const Step& step, TensorView<const float> x) {
  const int64_t row_bytes = x.cols * kernels::dtype_bytes(step.context.dtype);
  if (step.context.dtype == kernels::DType::kFloat32)
    return {reinterpret_cast<const std::byte*>(x.data), x.rows, row_bytes,
            x.stride * static_cast<int64_t>(sizeof(float))};
  auto narrow = step.workspace.tensor<kernels::bf16>(x.rows, x.cols);
  kernels::to_bf16(step.context, x, narrow);
  return {reinterpret_cast<const std::byte*>(narrow.data), x.rows, row_bytes};
}

std::span<std::byte> bytes_of(TensorView<float> rows) {
  return {reinterpret_cast<std::byte*>(rows.data),
          static_cast<size_t>(rows.rows * rows.cols) * sizeof(float)};
}

/// Fills the lists of an ExpertRows, one sender after the other.
struct ExpertLists {
  std::span<int64_t> offsets;
  std::span<int32_t> expert_ids;
  std::span<float> weights;
  size_t row = 0, pair = 0;

  void append(std::span<const int32_t> pairs, std::span<const int32_t> ids, std::span<const float> values) {
    std::ranges::copy(ids, expert_ids.begin() + static_cast<int64_t>(pair));
    std::ranges::copy(values, weights.begin() + static_cast<int64_t>(pair));
    for (const int32_t count : pairs) {
      offsets[row++] = static_cast<int64_t>(pair);
      pair += static_cast<size_t>(count);
    }
    offsets[row] = static_cast<int64_t>(pair);
  }
};

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
  handle.split = &split;
  handle.x = x;
  handle.expert_ids = routed.expert_ids;
  handle.roots_there.assign(split.blocks.size(), 0);
  std::vector<DispatchWriter> writers(split.blocks.size());
  for (int64_t row = 0; row < x.rows; ++row) {
    for_each_lane(split, routed.expert_ids, row, [&](size_t lane, std::span<const int32_t> ids) {
      const float* weights = routed.weights.row(row) + (ids.data() - routed.expert_ids.row(row));
      writers[lane].add(static_cast<int32_t>(row), ids, {weights, ids.size()});
      handle.roots_there[lane] += count_roots(split.subtrees[lane], ids);
    });
  }
  Workspace::Frame frame(step.workspace);
  const auto rows = as_it_travels(step, x);
  for_each_other([&](int lane) {
    const DispatchWriter& writer = writers[static_cast<size_t>(lane)];
    counters_.copies += static_cast<int64_t>(writer.rows().size());
    lanes_.post(lane, Tag::kDispatch, writer.finish(rows));
  });
  handle.own = std::move(writers[static_cast<size_t>(lanes_.rank())]);
  handle.posted = Clock::now();
  return handle;
}

TokenDispatcher::Received TokenDispatcher::receive(const Step& step, Handle& handle) {
  const Clock::time_point began = Clock::now();
  std::vector<std::string> messages;
  int64_t num_rows = static_cast<int64_t>(handle.own.rows().size());
  int64_t num_pairs = static_cast<int64_t>(handle.own.weights().size());
  for_each_other([&](int lane) { messages.push_back(lanes_.receive(lane, Tag::kDispatch, "routed rows")); });
  count_flight(handle, began);
  std::vector<DispatchReader> readers;
  for (const std::string& message : messages) {
    const DispatchReader& reader = readers.emplace_back(message, handle.x.cols, step.context.dtype);
    num_rows += reader.num_rows();
    num_pairs += static_cast<int64_t>(reader.weights().size());
  }

  auto rows = step.workspace.tensor<float>(num_rows, handle.x.cols);
  ExpertLists lists{step.workspace.array<int64_t>(num_rows + 1), step.workspace.array<int32_t>(num_pairs),
                    step.workspace.array<float>(num_pairs)};
  lists.offsets[0] = 0;
  int64_t row = 0;
  for (const DispatchReader& reader : readers) {
    lists.append(reader.pairs(), reader.expert_ids(), reader.weights());
    widen_wire_rows(step.context, reader.rows(), rows.slice_rows(row, reader.num_rows()));
    row += reader.num_rows();
    handle.ends_of_rows.push_back(row);
  }
  lists.append(handle.own.pairs(), handle.own.expert_ids(), handle.own.weights());
  for (const int32_t own : handle.own.rows()) std::copy_n(handle.x.row(own), rows.cols, rows.row(row++));
  const ExpertRows received{
      .rows = rows, .offsets = lists.offsets, .expert_ids = lists.expert_ids, .weights = lists.weights};
  return {received, expect_roots(step, handle, received)};
}

TensorView<float> TokenDispatcher::expect_roots(const Step& step, Handle& handle, const ExpertRows& rows) {
  const auto& subtrees = handle.split->subtrees[static_cast<size_t>(lanes_.rank())];
  int64_t row = 0, num_others = 0;
  for (const int64_t end : handle.ends_of_rows) {
    for (; row < end; ++row) num_others += count_roots(subtrees, rows.ids_of(row));
    handle.ends_of_roots.push_back(num_others);
  }
  const int64_t num_own = handle.roots_there[static_cast<size_t>(lanes_.rank())];
  const int64_t num_ours = std::accumulate(handle.roots_there.begin(), handle.roots_there.end(), int64_t{0});
  auto roots = step.workspace.tensor<float>(num_others + num_ours, handle.x.cols);
  handle.roots_of_others = roots.slice_rows(0, num_others);
  handle.roots_of_ours = roots.slice_rows(num_others, num_ours);
  int64_t place = num_own;
  for_each_other([&](int lane) {
    const int64_t count = handle.roots_there[static_cast<size_t>(lane)];
    if (count > 0)
      lanes_.expect(lane, Tag::kCombine, bytes_of(handle.roots_of_ours.slice_rows(place, count)));
    place += count;
  });
  return roots.slice_rows(0, num_others + num_own);
}

void TokenDispatcher::send_home(Handle& handle) {
  int64_t place = 0;
  auto end = handle.ends_of_roots.begin();
  for_each_other([&](int lane) {
    const auto bytes = bytes_of(handle.roots_of_others.slice_rows(place, *end - place));
    if (!bytes.empty())
      lanes_.post_in_place(lane, Tag::kCombine, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    place = *end++;
  });
  handle.posted = Clock::now();
}

TensorView<const float> TokenDispatcher::combine(const Step& step, Handle handle) {
  const Clock::time_point began = Clock::now();
  lanes_.await_expected("expert sums");
  count_flight(handle, began);

  // Add the roots along the rest of the tree. Lanes and subtrees rise, so each row's terms do.
  std::vector<int64_t> next(handle.roots_there.size(), 0);
  int64_t place = handle.roots_there[static_cast<size_t>(lanes_.rank())];
  for_each_other([&](int lane) {
    next[static_cast<size_t>(lane)] = place;
    place += handle.roots_there[static_cast<size_t>(lane)];
  });
  const int64_t num_rows = handle.x.rows;
  auto terms = step.workspace.array<kernels::TreeTerm>(place);
  auto offsets = step.workspace.array<int64_t>(num_rows + 1);
  int64_t term = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    offsets[row] = term;
    for_each_lane(*handle.split, handle.expert_ids, row, [&](size_t lane, std::span<const int32_t> ids) {
      for_each_root(handle.split->subtrees[lane], ids,
                    [&](const ExpertRange& subtree, std::span<const int32_t>) {
                      terms[term++] = {.position = static_cast<int32_t>(subtree.begin),
                                       .input_row = static_cast<int32_t>(next[lane]++),
                                       .weight = 1.0f};
                    });
    });
  }
  offsets[num_rows] = term;
  auto sums = step.workspace.tensor<float>(num_rows, handle.x.cols);
  kernels::tree_sum(step.context, handle.roots_of_ours, terms, offsets, sums);
  lanes_.flush("expert sums to be taken");  // they are sent from the step's workspace
  return sums;
}

void TokenDispatcher::count_flight(const Handle& handle, Clock::time_point began_waiting) {
  const Clock::time_point now = Clock::now();
  counters_.in_flight += now - handle.posted;
  counters_.waiting += now - began_waiting;
}

namespace {

/// Rows of the shared expert between two looks at the messages: enough to keep its product efficient.
constexpr int64_t kRowsBetweenLooks = 256;

template <class Piece>
void in_pieces(TokenDispatcher& dispatcher, int64_t rows, Piece&& piece) {
  for (int64_t begin = 0; begin < rows; begin += kRowsBetweenLooks) {
    piece(begin, std::min(kRowsBetweenLooks, rows - begin));
    dispatcher.progress();
  }
}

}  // namespace

void distributed_moe(const Step& step, TokenDispatcher& dispatcher, const ExpertSplit& split,
                     const LayerConfig& config, const MoeLayer& layer, TensorView<const float> x,
                     TensorView<float> y) {
  Workspace::Frame frame(step.workspace);
  const RoutedTokens routed = route_tokens(step, config, layer, x);
  auto handle = dispatcher.dispatch(step, split, expert_input(step, layer, x), routed);
  TensorView<float> hidden, shared;
  if (layer.shared) {
    hidden = step.workspace.tensor<float>(x.rows, layer.shared->up_proj.weight.n());
    shared = step.workspace.tensor<float>(x.rows, x.cols);
    in_pieces(dispatcher, x.rows, [&](int64_t begin, int64_t count) {  // while the rows travel
      mlp_up(step, *layer.shared, x.slice_rows(begin, count), hidden.slice_rows(begin, count));
    });
  }
  const auto received = dispatcher.receive(step, handle);
  expert_partial_sums(step, layer, split.subtrees[static_cast<size_t>(dispatcher.lane())], received.rows,
                      received.roots);
  dispatcher.send_home(handle);
  if (layer.shared) {
    in_pieces(dispatcher, x.rows, [&](int64_t begin, int64_t count) {  // while the sums travel
      mlp_down(step, *layer.shared, hidden.slice_rows(begin, count), shared.slice_rows(begin, count));
    });
  }
  const auto sums = dispatcher.combine(step, std::move(handle));
  finish_moe(step, layer, sums, shared, y);
}

}  // namespace nemo::dist
