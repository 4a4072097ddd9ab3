// Rows between ranks travel in the job's dtype, in which they are exact.
#pragma once

#include <string_view>

#include "kernels/context.h"

namespace nemo::dist {

/// Widens rows that have travelled in context.dtype into out [T, width]. `bytes` has as many as out takes and
/// is aligned for its dtype.
void widen_wire_rows(const kernels::Context& context, std::string_view bytes, kernels::TensorView<float> out);

}  // namespace nemo::dist
