// The bytes of one dispatch message: [num_rows][num_pairs][pairs of each row][expert ids][weights][rows].
// int32 and float32 in the machine's order; rows in the job's dtype, in which they are exact.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/context.h"

namespace nemo::dist {

/// Collects the rows for one destination.
class DispatchWriter {
 public:
  void add(int32_t row, std::span<const int32_t> expert_ids, std::span<const float> weights);
  const std::vector<int32_t>& rows() const { return rows_; }
  /// The message; x [T, X] holds the rows named in add.
  std::string finish(kernels::TensorView<const float> x, kernels::DType wire) const;

 private:
  std::vector<int32_t> rows_, pairs_, expert_ids_;
  std::vector<float> weights_;
};

/// A message from another rank, checked. Borrows its bytes.
struct DispatchReader {
  /// Throws Error if the size does not fit the counts inside, or the rows' pairs are not num_pairs together.
  DispatchReader(std::string_view bytes, int64_t row_width, kernels::DType wire);

  int64_t num_rows = 0;
  int64_t num_pairs = 0;
  const char* pairs = nullptr;       ///< int32 [num_rows], unaligned
  const char* expert_ids = nullptr;  ///< int32 [num_pairs], unaligned
  const char* weights = nullptr;     ///< float [num_pairs], unaligned
  /// Widens row `row` into out [row_width].
  void read_row(int64_t row, float* out) const;

 private:
  /// Whoever walks over the rows' pairs stays in expert_ids and weights.
  void check_pairs() const;

  const char* row_bytes_ = nullptr;
  int64_t row_width_ = 0;
  kernels::DType wire_ = kernels::DType::kFloat32;
};

}  // namespace nemo::dist
