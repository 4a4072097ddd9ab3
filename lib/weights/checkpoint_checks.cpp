#include "lib/weights/checkpoint_checks.h"

#include <algorithm>
#include <set>

#include "kernels/error.h"
#include "kernels/weight_format.h"
#include "lib/weights/float_conversion.h"
#include "lib/weights/tensor_names.h"

namespace nemo {
namespace {

constexpr size_t kMaxListed = 5;

/// "missing 12 tensors: a, b, c, d, e and 7 more".
std::string list_text(const std::string& label, const std::vector<std::string>& items) {
  if (items.empty()) return "";
  std::string text =
      label + " " + std::to_string(items.size()) + (items.size() == 1 ? " tensor: " : " tensors: ");
  for (size_t i = 0; i < std::min(kMaxListed, items.size()); ++i) text += (i > 0 ? ", " : "") + items[i];
  if (items.size() > kMaxListed) text += " and " + std::to_string(items.size() - kMaxListed) + " more";
  return text;
}

/// Compares the tensors there are with those there should be and collects all differences.
class Comparison {
 public:
  explicit Comparison(const TensorsByName& tensors) : tensors_(tensors) {}

  void expect(const TensorSpec& spec) {
    const bool is_stacked = spec.split == Split::kByExpert && tensors_.contains(spec.name);
    if (spec.split != Split::kByExpert || is_stacked) {
      expect_one(spec.name, spec.shape, spec.keep == Keep::kJobDType && !is_stacked);
      return;
    }
    const std::vector<int64_t> shape(spec.shape.begin() + 1, spec.shape.end());
    const auto first = tensors_.find(expert_tensor_name(spec.name, 0));
    for (int64_t expert = 0; expert < spec.shape[0]; ++expert) {
      const std::string name = expert_tensor_name(spec.name, expert);
      expect_one(name, shape, true);
      const auto entry = tensors_.find(name);
      if (first != tensors_.end() && entry != tensors_.end())
        expect_same_format(*first->second, *entry->second);
    }
  }

  void allow(const std::string& name) { expected_.insert(name); }

  void throw_differences(const std::string& where) const {
    std::vector<std::string> unknown;
    for (const auto& [name, tensor] : tensors_) {
      if (!expected_.contains(name) && !is_ignorable_tensor(name))
        unknown.push_back(tensor->name + " in " + tensor->file);
    }
    std::string text;
    for (const std::string& part :
         {list_text("missing", missing_), list_text("wrong type or shape of", misshapen_),
          list_text("experts of a layer not stored alike:", unlike_), list_text("unknown", unknown)}) {
      if (!part.empty()) text += (text.empty() ? "" : "; ") + part;
    }
    if (text.empty()) return;
    throw Error(where, text, "are config.json and the weights of the same model?");
  }

 private:
  void expect_one(const std::string& name, const std::vector<int64_t>& shape, bool may_be_quantized) {
    expected_.insert(name);
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) {
      missing_.push_back(name + " " + shape_text(shape));
      return;
    }
    const TensorInfo& tensor = *entry->second;
    if (may_be_quantized && stored_as(tensor.dtype) != StoredAs::kPlain) {
      expect_quantized(tensor, name, shape);
    } else if (tensor.shape != shape || !is_plain_float(tensor.dtype)) {
      add_misshapen(tensor, "BF16, F16 or F32 " + shape_text(shape));
    }
  }

  /// `shape`: of the matrix, [rows, columns].
  void expect_quantized(const TensorInfo& tensor, const std::string& name,
                        const std::vector<int64_t>& shape) {
    const bool is_nvfp4 = stored_as(tensor.dtype) == StoredAs::kNvfp4;
    if (is_nvfp4 && shape[1] % kernels::kNvfp4Block != 0) {
      add_misshapen(tensor,
                    "BF16 or FP8, having " + std::to_string(shape[1]) + " columns, no multiple of 16,");
      return;
    }
    const std::vector<int64_t> stored = {shape[0], is_nvfp4 ? shape[1] / 2 : shape[1]};
    if (tensor.shape != stored)
      add_misshapen(tensor, std::string(dtype_name(tensor.dtype)) + " " + shape_text(stored));
    if (is_nvfp4)
      expect_scale(tensor, name, ScaleKind::kWeight, DType::kF8E4M3,
                   {shape[0], shape[1] / kernels::kNvfp4Block});
    expect_scale(tensor, name, is_nvfp4 ? ScaleKind::kWeight2 : ScaleKind::kWeight, DType::kF32, {});
    allow(scale_tensor_name(name, ScaleKind::kInput));
  }

  void expect_scale(const TensorInfo& weight, const std::string& weight_name, ScaleKind kind, DType dtype,
                    const std::vector<int64_t>& shape) {
    const std::string name = scale_tensor_name(weight_name, kind);
    const std::string wanted = std::string(dtype_name(dtype)) + " " + shape_text(shape);
    allow(name);
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) {
      missing_.push_back(name + " " + wanted + ", the scale of " + weight.name + " in " + weight.file);
      return;
    }
    const TensorInfo& scale = *entry->second;
    const bool is_shape = scale.shape == shape || (shape.empty() && scale.num_elements() == 1);
    if (scale.dtype != dtype || !is_shape) add_misshapen(scale, wanted);
  }

  /// One product runs through all experts of a layer, in one format.
  void expect_same_format(const TensorInfo& first, const TensorInfo& other) {
    if (stored_as(first.dtype) == stored_as(other.dtype)) return;
    unlike_.push_back(other.name + " is " + std::string(dtype_name(other.dtype)) + " in " + other.file +
                      ", but " + first.name + " is " + std::string(dtype_name(first.dtype)));
  }

  void add_misshapen(const TensorInfo& tensor, const std::string& wanted) {
    misshapen_.push_back(tensor.name + " is " + std::string(dtype_name(tensor.dtype)) + " " +
                         shape_text(tensor.shape) + " but should be " + wanted + " in " + tensor.file);
  }

  const TensorsByName& tensors_;
  std::set<std::string, std::less<>> expected_;
  std::vector<std::string> missing_;
  std::vector<std::string> misshapen_, unlike_;
};

/// Files of different releases in one folder would otherwise go unnoticed.
void check_announced(const TensorInfo& tensor, std::string_view name, const ModelConfig& config) {
  const StoredAs stored = stored_as(tensor.dtype);
  for (const AnnouncedQuantization& announced : config.announced_quantization) {
    const auto said = announced.find(name);
    if (!said || *said == stored) continue;
    throw Error(tensor.file + ": tensor " + tensor.name,
                "is stored as " + std::string(dtype_name(tensor.dtype)) + ", but " + announced.where +
                    " announces " + std::string(stored_as_text(*said)) + " for it",
                "weights and announcement are of different releases; fetch the folder again");
  }
}

void check_announced(const TensorsByName& tensors, const ModelConfig& config) {
  if (config.announced_quantization.empty()) return;
  for (const TensorSpec& spec : model_tensors(config)) {
    if (spec.keep != Keep::kJobDType) continue;
    const int64_t num_experts = spec.split == Split::kByExpert ? spec.shape[0] : 1;
    for (int64_t expert = 0; expert < num_experts; ++expert) {
      const std::string name =
          spec.split == Split::kByExpert ? expert_tensor_name(spec.name, expert) : spec.name;
      auto entry = tensors.find(name);
      if (entry == tensors.end()) entry = tensors.find(spec.name);  // stacked
      if (entry != tensors.end()) check_announced(*entry->second, name, config);
    }
  }
}

}  // namespace

TensorsByName index_logical_names(const WeightSource& source) {
  TensorsByName tensors;
  for (const std::string& name : source.names()) {
    const TensorInfo* tensor = source.find(name);
    const auto [entry, is_new] = tensors.emplace(logical_tensor_name(name), tensor);
    if (!is_new) {
      throw Error(
          tensor->file + ": tensor " + name,
          "is the same as " + entry->second->name + " in " + entry->second->file + " under another name",
          "remove one of the two");
    }
  }
  return tensors;
}

void check_checkpoint(const TensorsByName& tensors, const ModelConfig& config, const std::string& where) {
  Comparison comparison(tensors);
  for (const TensorSpec& spec : model_tensors(config)) comparison.expect(spec);
  // A tied checkpoint may store the shared matrix twice; the embedding is the one that is read.
  if (config.tie_word_embeddings) comparison.allow(tensor_name(TensorRole::kLmHead, 0));
  comparison.throw_differences(where);
  check_announced(tensors, config);
}

}  // namespace nemo
