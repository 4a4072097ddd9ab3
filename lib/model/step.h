// Step: the rows that go through the layers together, as every mixer sees them.
#pragma once

#include <span>

#include "kernels/context.h"
#include "kernels/ops/attention.h"
#include "lib/config/model_config.h"
#include "lib/model/workspace.h"

namespace nemo {

/// Borrowed for the length of one forward pass. `page_tables` is parallel to `segments`.
struct Step {
  const kernels::Context& context;
  const ModelConfig& config;
  Workspace& workspace;
  std::span<const kernels::Segment> segments;
  std::span<const kernels::PageTable> page_tables;
};

}  // namespace nemo
