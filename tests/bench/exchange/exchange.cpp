// exchange-bench: how long the exchange of routed rows takes by itself, at Super's width: dispatch, receive
// and combine of one layer with nothing computed in between. Run by mpirun; rank 0 prints. Nothing asserted.
//
//   mpirun -np 2 exchange-bench
#include <cstdio>
#include <random>

#include "dist/comm/mpi_session.h"
#include "dist/moe/token_dispatcher.h"
#include "dist/plan/plan.h"
#include "tests/bench/stopwatch.h"

namespace nemo::bench {
namespace {

using dist::Tag;
using kernels::TensorView;

constexpr int64_t kLatent = 1024, kExperts = 512, kTopK = 22;

dist::ExpertSplit split_for(int lanes) {
  std::vector<kernels::ExpertRange> blocks;
  for (int lane = 0; lane < lanes; ++lane) blocks.push_back(dist::expert_block(kExperts, lanes, lane));
  return dist::ExpertSplit::make(std::move(blocks), kExperts);
}

/// Rows of one lane with uniformly drawn experts.
struct Rows {
  std::vector<float> x, weights;
  std::vector<int32_t> ids;
  Rows(int64_t count, uint32_t seed)
      : x(static_cast<size_t>(count * kLatent), 0.5f), weights(static_cast<size_t>(count * kTopK), 0.1f) {
    std::mt19937 random(seed);
    std::vector<int32_t> all(kExperts);
    for (int32_t i = 0; i < kExperts; ++i) all[static_cast<size_t>(i)] = i;
    for (int64_t row = 0; row < count; ++row) {
      for (size_t i = 0; i < kTopK; ++i) std::swap(all[i], all[i + random() % (all.size() - i)]);
      std::vector<int32_t> chosen(all.begin(), all.begin() + kTopK);
      std::ranges::sort(chosen);
      ids.insert(ids.end(), chosen.begin(), chosen.end());
    }
  }
};

struct Result {
  double seconds = 0;
  double bytes = 0;  ///< posted by this rank
};

Result measure(dist::Communicator& world, const kernels::Context& context, int64_t num_rows) {
  const dist::ExpertSplit split = split_for(world.size());
  Rows rows(num_rows, static_cast<uint32_t>(world.rank()));
  Workspace workspace;
  const ModelConfig config;
  const Step step{context, config, workspace, {}, {}};
  dist::TokenDispatcher dispatcher(world);
  const RoutedTokens routed{{rows.ids.data(), num_rows, kTopK}, {rows.weights.data(), num_rows, kTopK}};
  const auto exchange = [&] {
    Workspace::Frame frame(workspace);
    auto handle = dispatcher.dispatch(step, split, {rows.x.data(), num_rows, kLatent}, routed);
    dispatcher.receive(step, handle);
    dispatcher.send_home(handle);
    dispatcher.combine(step, std::move(handle));
  };
  for (int i = 0; i < 20; ++i) exchange();
  const int64_t repeats = std::max<int64_t>(20, 20000 / (num_rows + 10));
  const int64_t before = world.bytes_posted(Tag::kDispatch) + world.bytes_posted(Tag::kCombine);
  world.all_max({&before, 1}, "all ranks to start");
  const double seconds = seconds_of([&] {
    for (int64_t i = 0; i < repeats; ++i) exchange();
  });
  const int64_t posted = world.bytes_posted(Tag::kDispatch) + world.bytes_posted(Tag::kCombine) - before;
  return {seconds / static_cast<double>(repeats), static_cast<double>(posted) / static_cast<double>(repeats)};
}

void run() {
  auto world = dist::Communicator::world(std::chrono::seconds(60));
  kernels::ThreadPool threads(1);
  const kernels::Context context{threads, kernels::detect_isa(), kernels::DType::kBFloat16};
  if (world.rank() == 0)
    std::printf("%d ranks, rows of %ld, top %ld of %ld experts\n%10s %14s %12s %10s\n", world.size(), kLatent,
                kTopK, kExperts, "rows/rank", "bytes/rank", "us", "GB/s");
  for (const int64_t num_rows : {1, 4, 16, 64, 256, 1024}) {
    const Result result = measure(world, context, num_rows);
    if (world.rank() == 0)
      std::printf("%10ld %14.0f %12.1f %10.2f\n", num_rows, result.bytes, result.seconds * 1e6,
                  result.bytes / result.seconds / 1e9);
  }
}

}  // namespace
}  // namespace nemo::bench

int main(int argc, char** argv) {
  nemo::dist::MpiSession session(argc, argv);
  nemo::bench::run();
  return 0;
}
