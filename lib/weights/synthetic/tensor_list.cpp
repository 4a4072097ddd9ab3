#include "lib/weights/synthetic/tensor_list.h"

#include <cmath>

#include "kernels/weight_format.h"
#include "lib/output/checksum.h"
#include "lib/weights/tensor_names.h"

namespace nemo {
namespace {

/// Where a tensor's values lie: center + half_width * (-1, 1).
struct Spread {
  double center = 0;
  double half_width = 0;
};

constexpr double kSqrt3 = 1.7320508075688772;  // half the width of a uniform distribution of variance 1

/// Mamba's vectors as at the start of a training: A in -[1, 16], time steps in [0.001, 0.1].
Spread spread_of(const TensorSpec& spec) {
  switch (spec.role) {
    case TensorRole::kEmbedding:
      return {0, kSqrt3};
    case TensorRole::kNorm:
    case TensorRole::kGatedNorm:
    case TensorRole::kFinalNorm:
    case TensorRole::kD:
      return {1, 0.125};
    case TensorRole::kALog:
      return {1.375, 1.375};
    case TensorRole::kDtBias:
      return {-4.5, 2.25};
    case TensorRole::kRouterBias:
      return {0, 0.0625};
    default:
      break;
  }
  if (spec.shape.size() == 1) return {0, 0.125};                           // biases
  return {0, kSqrt3 / std::sqrt(static_cast<double>(spec.shape.back()))};  // keeps the variance of its input
}

bool is_quantized_by_releases(TensorRole role) {
  using enum TensorRole;
  return role == kInProj || role == kOutProj || role == kUpProj || role == kDownProj || role == kExpertUp ||
         role == kExpertDown || role == kSharedUp || role == kSharedDown || role == kLatentIn ||
         role == kLatentOut;
}

class TensorList {
 public:
  explicit TensorList(StoredAs quantization) : quantization_(quantization) {}

  /// `name`: logical, in the slice; `stream_name`: in the whole model. `shape`: of experts, of one of them.
  void add(const TensorSpec& spec, const std::string& name, const std::string& stream_name,
           const std::vector<int64_t>& shape) {
    stream_name_ = stream_name;
    const std::string file_name = spec.role == TensorRole::kLmHead ? name : "backbone." + name;
    const bool is_nvfp4 = quantization_ == StoredAs::kNvfp4;
    const bool fits = !is_nvfp4 || shape.back() % kernels::kNvfp4Block == 0;
    if (quantization_ != StoredAs::kPlain && is_quantized_by_releases(spec.role) && fits) {
      const double rms = 1 / std::sqrt(static_cast<double>(shape.back()));
      is_nvfp4 ? add_nvfp4(file_name, shape, rms) : add_fp8(file_name, shape, rms);
      return;
    }
    const Spread spread = spread_of(spec);
    push({.name = file_name,
          .dtype = spec.role == TensorRole::kRouterBias ? DType::kF32 : DType::kBF16,
          .shape = shape,
          .center = spread.center,
          .half_width = spread.half_width});
    const bool is_module = shape.size() > 1 && spec.role != TensorRole::kEmbedding;
    if (is_module) result_.not_quantized.push_back(file_name.substr(0, file_name.rfind('.')));
  }

  /// As releases have them, of quantized models. `name`: logical, in the slice.
  void add_kv_scale(const std::string& name) {
    if (quantization_ == StoredAs::kPlain) return;
    push({.name = "backbone." + name, .dtype = DType::kF32, .shape = {}, .center = kKvScale});
  }

  SyntheticTensors take() { return std::move(result_); }

 private:
  /// A stream for every tensor: by its own name, and by its ending for the scales beside it.
  void push(RandomTensor tensor) {
    tensor.stream = checksum(stream_name_ + " " + tensor.name.substr(tensor.name.rfind('.')));
    result_.tensors.push_back(std::move(tensor));
  }

  void push_scalar(const std::string& weight_name, ScaleKind kind, double value) {
    push({.name = scale_tensor_name(weight_name, kind), .dtype = DType::kF32, .shape = {}, .center = value});
  }

  void add_fp8(const std::string& name, const std::vector<int64_t>& shape, double rms) {
    push({.name = name, .dtype = DType::kF8E4M3, .shape = shape, .fill = Fill::kFp8Codes});
    push_scalar(name, ScaleKind::kWeight, rms / fp8_code_rms());
    push_scalar(name, ScaleKind::kInput, kInputScale);
  }

  void add_nvfp4(const std::string& name, const std::vector<int64_t>& shape, double rms) {
    push({.name = name, .dtype = DType::kU8, .shape = {shape[0], shape[1] / 2}, .fill = Fill::kNvfp4Pairs});
    push({.name = scale_tensor_name(name, ScaleKind::kWeight),
          .dtype = DType::kF8E4M3,
          .shape = {shape[0], shape[1] / kernels::kNvfp4Block},
          .fill = Fill::kBlockScales});
    push_scalar(name, ScaleKind::kWeight2, rms / nvfp4_value_rms());
    push_scalar(name, ScaleKind::kInput, kInputScale);
  }

  static constexpr double kKvScale = 6.0 / 448;  // the largest of many numbers of variance 1 is about 6
  static constexpr double kInputScale = 0.01;    // of quantized activations, which we do not have

  StoredAs quantization_;
  std::string stream_name_;
  SyntheticTensors result_;
};

void add_layer(const ModelConfig& config, int64_t layer_idx, int64_t idx_in_whole, TensorList& list) {
  const LayerConfig& layer = config.layers[static_cast<size_t>(layer_idx)];
  const std::string prefix = "layers." + std::to_string(layer_idx) + ".";
  const std::string stream_prefix = "layers." + std::to_string(idx_in_whole) + ".";
  for (const TensorSpec& spec : layer_tensors(config, layer, "")) {
    if (spec.split != Split::kByExpert) {
      list.add(spec, prefix + spec.name, stream_prefix + spec.name, spec.shape);
      continue;
    }
    const std::vector<int64_t> shape(spec.shape.begin() + 1, spec.shape.end());
    for (int64_t expert = 0; expert < spec.shape[0]; ++expert)
      list.add(spec, expert_tensor_name(spec.role, layer_idx, expert),
               expert_tensor_name(spec.role, idx_in_whole, expert), shape);
  }
  if (layer.kind != LayerKind::kAttention) return;
  for (const TensorRole role : {TensorRole::kKScale, TensorRole::kVScale})
    list.add_kv_scale(tensor_name(role, layer_idx));
}

}  // namespace

SyntheticTensors synthetic_tensors(const ModelConfig& config, const std::vector<int64_t>& layers,
                                   StoredAs quantization) {
  TensorList list(quantization);
  const std::vector<TensorSpec> outer = outer_tensors(config);
  for (const TensorSpec& spec : outer)
    if (spec.split == Split::kFirstStage) list.add(spec, spec.name, spec.name, spec.shape);
  for (size_t i = 0; i < layers.size(); ++i) add_layer(config, static_cast<int64_t>(i), layers[i], list);
  for (const TensorSpec& spec : outer)
    if (spec.split != Split::kFirstStage) list.add(spec, spec.name, spec.name, spec.shape);
  return list.take();
}

}  // namespace nemo
