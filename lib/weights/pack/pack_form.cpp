#include "lib/weights/pack/pack_form.h"

#include <array>
#include <numeric>

#include "kernels/ops/matmul.h"
#include "lib/request/fingerprint.h"

namespace nemo {
namespace {

using kernels::PackedMatrix;
using kernels::WeightFormat;

struct FormatName {
  WeightFormat format;
  std::string_view name;
};

constexpr std::array kFormats = {
    FormatName{WeightFormat::kFloat32, "float32"}, FormatName{WeightFormat::kBFloat16, "bfloat16"},
    FormatName{WeightFormat::kFp8, "fp8"}, FormatName{WeightFormat::kNvfp4, "nvfp4"}};

constexpr std::string_view kPacked = "packed ";

/// A matrix with a remainder in every direction and different numbers everywhere.
PackedMatrix sample_matrix(WeightFormat format) {
  constexpr int64_t kRows = 67, kColumns = 48;
  PackedMatrix packed(format, kRows, kColumns);
  std::vector<uint8_t> codes(kRows * kColumns);
  std::iota(codes.begin(), codes.end(), uint8_t{0});
  if (format == WeightFormat::kFp8) {
    packed.pack_fp8_rows(0, {codes.data(), kRows, kColumns});
  } else if (format == WeightFormat::kNvfp4) {
    packed.pack_nvfp4_rows(0, {codes.data(), kRows, kColumns / 2}, {codes.data(), kRows, kColumns / 16});
  } else {
    std::vector<float> values(codes.begin(), codes.end());
    packed.pack_rows(0, kernels::TensorView<const float>(values.data(), kRows, kColumns));
  }
  return packed;
}

}  // namespace

std::vector<TensorSpec> pack_tensors(const ModelConfig& config) {
  std::vector<TensorSpec> specs = model_tensors(config);
  if (config.tie_word_embeddings)
    specs.push_back({.role = TensorRole::kLmHead,
                     .name = tensor_name(TensorRole::kLmHead, 0),
                     .shape = {config.vocab_size, config.hidden_size},
                     .split = Split::kLastStage});
  return specs;
}

bool is_packed_matrix(const TensorSpec& spec) {
  if (spec.role == TensorRole::kRouter) return true;
  return spec.role != TensorRole::kEmbedding && spec.keep == Keep::kJobDType;
}

kernels::DType pack_dtype(const TensorSpec& spec, kernels::DType dtype) {
  return spec.keep == Keep::kFloat32 ? kernels::DType::kFloat32 : dtype;
}

std::string_view dtype_form(kernels::DType dtype) {
  return dtype == kernels::DType::kFloat32 ? "float32" : "bfloat16";
}

std::string packed_form(WeightFormat format) {
  std::string form(kPacked);
  for (const FormatName& entry : kFormats)
    if (entry.format == format) form += entry.name;
  return form;
}

std::optional<WeightFormat> find_packed_form(std::string_view form) {
  for (const FormatName& entry : kFormats)
    if (form.starts_with(kPacked) && form.substr(kPacked.size()) == entry.name) return entry.format;
  return std::nullopt;
}

std::string packed_layout() {
  std::string all;
  for (const FormatName& entry : kFormats) {
    const PackedMatrix packed = sample_matrix(entry.format);
    all.append(reinterpret_cast<const char*>(packed.data()), static_cast<size_t>(packed.bytes()));
  }
  return fingerprint_bytes(all);
}

}  // namespace nemo
