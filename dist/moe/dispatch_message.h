// The bytes of one dispatch message: [num_rows][num_pairs][pairs of each row][expert ids][weights][rows].
// int32 and float32 in the machine's order; rows in the job's dtype, in which they are exact.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/context.h"

namespace nemo::dist {

/// Besides its rows, each with 4 bytes and 8 for each of its experts, a message has its two counts.
inline constexpr int64_t kDispatchCountBytes = 8;

/// Collects the rows for one destination.
class DispatchWriter {
 public:
  void add(int32_t row, std::span<const int32_t> expert_ids, std::span<const float> weights);
  const std::vector<int32_t>& rows() const { return rows_; }
  const std::vector<int32_t>& pairs() const { return pairs_; }  ///< of each row
  const std::vector<int32_t>& expert_ids() const { return expert_ids_; }
  const std::vector<float>& weights() const { return weights_; }

  /// The message; x [T, bytes of a row] holds the rows named in add, as they travel.
  std::string finish(kernels::TensorView<const std::byte> x) const;

 private:
  std::vector<int32_t> rows_, pairs_, expert_ids_;
  std::vector<float> weights_;
};

/// A message from another rank, checked. Borrows its bytes, which are aligned for int32.
class DispatchReader {
 public:
  /// Throws Error if the size does not fit the counts inside, or the rows' pairs are not num_pairs together.
  DispatchReader(std::string_view bytes, int64_t row_width, kernels::DType wire);

  std::span<const int32_t> pairs() const { return pairs_; }  ///< of each row
  std::span<const int32_t> expert_ids() const { return expert_ids_; }
  std::span<const float> weights() const { return weights_; }
  int64_t num_rows() const { return static_cast<int64_t>(pairs_.size()); }
  /// [num_rows, row_width] as they travelled; see widen_wire_rows.
  std::string_view rows() const { return rows_; }

 private:
  /// Whoever walks over the rows' pairs stays in expert_ids and weights.
  void check_pairs() const;

  std::span<const int32_t> pairs_, expert_ids_;
  std::span<const float> weights_;
  std::string_view rows_;
};

}  // namespace nemo::dist
