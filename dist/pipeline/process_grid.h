// ProcessGrid: where this rank stands (replica, stage, lane) and whom it talks to. Made once, passed by
// reference; there is no global rank anywhere else.
#pragma once

#include "dist/comm/communicator.h"
#include "dist/plan/plan.h"

namespace nemo::dist {

class ProcessGrid {
 public:
  /// Collective over `world`, whose size is the plan's number of ranks.
  ProcessGrid(Communicator& world_, const Plan& plan)
      : world(world_),
        position(plan.position(world_.rank())),
        lanes(world_.split(static_cast<int>(position.replica * plan.layout.pipeline + position.stage),
                           static_cast<int>(position.lane))),
        stages(world_.split(static_cast<int>(position.replica * plan.layout.expert + position.lane),
                            static_cast<int>(position.stage))) {}

  bool is_first_stage() const { return position.stage == 0; }
  bool is_last_stage() const { return stages.rank() == stages.size() - 1; }
  int last_stage() const { return stages.size() - 1; }

  Communicator& world;
  const Position position;
  Communicator lanes;   ///< the ranks of my stage, rank = lane: they exchange routed tokens
  Communicator stages;  ///< the ranks of my lane, rank = stage: they pass steps and hidden states on
};

}  // namespace nemo::dist
