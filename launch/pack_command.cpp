#include "launch/pack_command.h"

#include <chrono>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "dist/comm/communicator.h"
#include "launch/exit_codes.h"
#include "launch/progress.h"

namespace nemo::launch {

namespace {

/// A rank that is slower than others, or has more to read, is waited for.
constexpr std::chrono::hours kDeadline(2);

/// rank 0's numbers, at every rank.
std::vector<uint64_t> broadcast(dist::Communicator& world, const std::vector<uint64_t>& values) {
  const auto* bytes = reinterpret_cast<const char*>(values.data());
  const std::string all =
      world.broadcast({bytes, values.size() * sizeof(uint64_t)}, 0, "rank 0 to lay out the pack");
  std::vector<uint64_t> result(all.size() / sizeof(uint64_t));
  std::memcpy(result.data(), all.data(), all.size());
  return result;
}

PackSummary write_together(dist::Communicator& world, const PackOptions& options) {
  const bool is_root = world.rank() == 0;
  std::optional<PackWriter> writer;
  dist::agree_on_error(world, "opening the checkpoint", [&] { writer.emplace(options); });
  std::vector<uint64_t> places;
  dist::agree_on_error(world, "laying out the pack", [&] {
    if (is_root) places = writer->lay_out();
  });
  places = broadcast(world, places);
  std::string mine;
  dist::agree_on_error(world, "packing",
                       [&] { mine = writer->write_share(places, world.rank(), world.size()); });
  std::string all;
  for (const std::string& share : world.all_gather(mine, "all ranks to have packed")) all += share;
  dist::agree_on_error(world, "finishing the pack", [&] {
    if (is_root) writer->finish(all);
  });
  return writer->summary();
}

}  // namespace

int pack_checkpoint(const CommandLine& line) {
  const auto start = std::chrono::steady_clock::now();
  dist::Communicator world = dist::Communicator::world(kDeadline);
  const PackSummary written = write_together(world, line.pack);
  if (world.rank() != 0) return kExitDone;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::cout << line.pack.out_path << ": tensors " << count_text(written.num_tensors) << ", "
            << count_text(static_cast<int64_t>(written.num_bytes)) << " bytes in " << duration_text(seconds)
            << '\n';
  return kExitDone;
}

}  // namespace nemo::launch
