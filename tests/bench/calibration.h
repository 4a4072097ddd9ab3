// Measures what the cost model of --plan computes with (dist/plan/calibration.h): the kernels at the shapes
// of the published models, and messages between two ranks.
#pragma once

#include "dist/comm/communicator.h"
#include "dist/plan/calibration.h"

namespace nemo::bench {

/// The kernels with so many threads. About twenty seconds.
dist::KernelRates measure_kernels(int num_threads);

/// Ranks 0 and 1 of `world`, which share this host, send to and fro. Collective over two ranks; rank 0's
/// answer counts.
dist::MessageCost measure_messages(dist::Communicator& world);

}  // namespace nemo::bench
