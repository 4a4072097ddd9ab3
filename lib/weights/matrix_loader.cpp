#include "lib/weights/matrix_loader.h"

#include <algorithm>
#include <memory>

namespace nemo {
namespace {

using kernels::PackedMatrix;
using kernels::TensorView;

/// Rows are read and packed in portions of about this size: large enough for a disk's full speed, small
/// enough to be packed from the caches.
constexpr int64_t kReadBytes = int64_t{2} << 20;
/// Portions begin at multiples of this many rows, so that no two write into one block of kernel layout,
/// unless so many rows are larger than kMostBytes.
constexpr int64_t kRowGrain = 64;
constexpr int64_t kMostBytes = int64_t{32} << 20;

/// A matrix to be loaded, and who reads its portions.
struct Task {
  const Checkpoint& checkpoint;
  const std::string& name;
  const RunPieces& run;
};

/// Calls portion(row_begin, row_end) for all rows; one thread reads while another packs.
void for_each_portion(const Task& task, int64_t num_rows, int64_t row_bytes, auto&& portion) {
  const int64_t least = std::clamp<int64_t>(kMostBytes / row_bytes, 1, kRowGrain);
  const int64_t rows = std::max(kReadBytes / row_bytes / kRowGrain * kRowGrain, least);
  task.run((num_rows + rows - 1) / rows,
           [&](int64_t i) { portion(i * rows, std::min(num_rows, (i + 1) * rows)); });
}

/// Room for `count` values that are written next.
template <class T>
std::unique_ptr<T[]> buffer(int64_t count) {
  return std::make_unique_for_overwrite<T[]>(static_cast<size_t>(count));
}

template <class T>
void pack_by_portions(const Task& task, PackedMatrix& packed, auto&& read_rows) {
  const int64_t k = packed.k();
  for_each_portion(task, packed.n(), k * int64_t{sizeof(T)}, [&](int64_t begin, int64_t end) {
    const auto rows = buffer<T>((end - begin) * k);
    read_rows(begin, end, rows.get());
    packed.pack_rows(begin, TensorView<const T>(rows.get(), end - begin, k));
  });
}

/// A quantized matrix stays as it is stored: its codes are packed, its scale comes along.
PackedMatrix load_quantized_matrix(const Task& task, int64_t n, int64_t k) {
  const auto& [checkpoint, name, run] = task;
  const bool is_fp8 = checkpoint.stored_as(name) == StoredAs::kFp8;
  PackedMatrix packed(is_fp8 ? kernels::WeightFormat::kFp8 : kernels::WeightFormat::kNvfp4, n, k,
                      checkpoint.scale(name));
  const int64_t code_bytes = is_fp8 ? k : k / 2, scale_bytes = k / kernels::kNvfp4Block;
  for_each_portion(task, n, code_bytes, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    const auto bytes = [&](const std::unique_ptr<uint8_t[]>& out, int64_t row_bytes) {
      return std::as_writable_bytes(std::span(out.get(), static_cast<size_t>(count * row_bytes)));
    };
    const auto codes = buffer<uint8_t>(count * code_bytes);
    task.checkpoint.read_rows_codes(name, begin, end, bytes(codes, code_bytes));
    const TensorView<const uint8_t> code_rows(codes.get(), count, code_bytes);
    if (is_fp8) return packed.pack_fp8_rows(begin, code_rows);
    const auto scales = buffer<uint8_t>(count * scale_bytes);
    task.checkpoint.read_rows_block_scales(name, begin, end, bytes(scales, scale_bytes));
    packed.pack_nvfp4_rows(begin, code_rows, {scales.get(), count, scale_bytes});
  });
  return packed;
}

PackedMatrix load(const Task& task, kernels::DType dtype) {
  const auto& [checkpoint, name, run] = task;
  if (auto packed = checkpoint.packed_matrix(name, dtype, run)) return std::move(*packed);
  const std::vector<int64_t> shape = checkpoint.shape(name);
  const int64_t n = shape.at(0), k = shape.at(1);
  if (checkpoint.stored_as(name) != StoredAs::kPlain) return load_quantized_matrix(task, n, k);
  PackedMatrix packed(dtype, n, k);
  if (dtype == kernels::DType::kBFloat16) {
    pack_by_portions<kernels::bf16>(task, packed, [&](int64_t begin, int64_t end, kernels::bf16* out) {
      task.checkpoint.read_rows_bf16(
          task.name, begin, end, {reinterpret_cast<uint16_t*>(out), static_cast<size_t>((end - begin) * k)});
    });
  } else {
    pack_by_portions<float>(task, packed, [&](int64_t begin, int64_t end, float* out) {
      task.checkpoint.read_rows_f32(task.name, begin, end, {out, static_cast<size_t>((end - begin) * k)});
    });
  }
  return packed;
}

}  // namespace

PackedMatrix load_matrix(const Checkpoint& checkpoint, const std::string& name, kernels::DType dtype) {
  const RunPieces all_readers = [&](int64_t num_pieces, const std::function<void(int64_t)>& piece) {
    checkpoint.run_readers(num_pieces, piece);
  };
  return load({checkpoint, name, all_readers}, dtype);
}

std::vector<PackedMatrix> load_matrices(const Checkpoint& checkpoint, std::span<const std::string> names,
                                        kernels::DType dtype) {
  const RunPieces this_reader = [](int64_t num_pieces, const std::function<void(int64_t)>& piece) {
    for (int64_t i = 0; i < num_pieces; ++i) piece(i);
  };
  std::vector<PackedMatrix> matrices(names.size());
  checkpoint.run_readers(static_cast<int64_t>(names.size()), [&](int64_t i) {
    const auto idx = static_cast<size_t>(i);
    matrices[idx] = load({checkpoint, names[idx], this_reader}, dtype);
  });
  return matrices;
}

}  // namespace nemo
