#include "dist/comm/wire_rows.h"

#include <cstring>
#include <string>

#include "kernels/error.h"
#include "kernels/ops/elementwise.h"

namespace nemo::dist {

void widen_wire_rows(const kernels::Context& context, std::string_view bytes,
                     kernels::TensorView<float> out) {
  NEMO_CHECK(static_cast<int64_t>(bytes.size()) == out.rows * out.cols * kernels::dtype_bytes(context.dtype),
             std::to_string(bytes.size()) + " bytes for " + std::to_string(out.rows) + " rows");
  if (bytes.empty()) return;
  if (context.dtype == kernels::DType::kFloat32) {
    std::memcpy(out.data, bytes.data(), bytes.size());
  } else {
    const auto* rows = reinterpret_cast<const kernels::bf16*>(bytes.data());
    kernels::to_float(context, kernels::TensorView(rows, out.rows, out.cols), out);
  }
}

}  // namespace nemo::dist
