#include "lib/weights/checkpoint_checks.h"

#include <algorithm>
#include <set>

#include "kernels/error.h"
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
    if (spec.split != Split::kByExpert || tensors_.contains(spec.name)) {
      expect_one(spec.name, spec.shape);
      return;
    }
    const std::vector<int64_t> shape(spec.shape.begin() + 1, spec.shape.end());
    const size_t cut = spec.name.rfind('.');  // "….experts" + ".7" + ".up_proj" + ".weight"
    for (int64_t expert = 0; expert < spec.shape[0]; ++expert) {
      expect_one(spec.name.substr(0, cut) + "." + std::to_string(expert) + spec.name.substr(cut) + ".weight",
                 shape);
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
          list_text("unknown", unknown)}) {
      if (!part.empty()) text += (text.empty() ? "" : "; ") + part;
    }
    if (text.empty()) return;
    throw Error(where, text, "are config.json and the weights of the same model?");
  }

 private:
  void expect_one(const std::string& name, const std::vector<int64_t>& shape) {
    expected_.insert(name);
    const auto entry = tensors_.find(name);
    if (entry == tensors_.end()) {
      missing_.push_back(name + " " + shape_text(shape));
      return;
    }
    const TensorInfo& tensor = *entry->second;
    if (tensor.shape == shape && is_plain_float(tensor.dtype)) return;
    misshapen_.push_back(tensor.name + " is " + std::string(dtype_name(tensor.dtype)) + " " +
                         shape_text(tensor.shape) + " but should be BF16, F16 or F32 " + shape_text(shape) +
                         " in " + tensor.file);
  }

  const TensorsByName& tensors_;
  std::set<std::string, std::less<>> expected_;
  std::vector<std::string> missing_;
  std::vector<std::string> misshapen_;
};

bool is_quantized(DType dtype) {
  return dtype == DType::kU8 || dtype == DType::kF8E4M3;
}

/// The type of a weight decides how it is quantized, not what config.json announces.
void refuse_quantized(const TensorsByName& tensors, const std::string& where) {
  for (const auto& [name, tensor] : tensors) {
    if (is_ignorable_tensor(name) || !is_quantized(tensor->dtype)) continue;
    // A block scale is itself F8_E4M3: its weight says what it is.
    const auto weight = tensors.find(quantized_weight_of_scale(name).value_or(name));
    const bool is_scale = weight != tensors.end() && is_quantized(weight->second->dtype);
    const TensorInfo& found = is_scale ? *weight->second : *tensor;
    throw Error(where + ": tensor " + found.name + " in " + found.file,
                std::string("is quantized as ") +
                    (found.dtype == DType::kU8 ? "NVFP4 (U8)" : "FP8 (F8_E4M3)") +
                    ", which this version of nemo-dist cannot read",
                "use the BF16 release of the model");
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
  refuse_quantized(tensors, where);
  Comparison comparison(tensors);
  for (const TensorSpec& spec : model_tensors(config)) comparison.expect(spec);
  // A tied checkpoint may store the shared matrix twice; the embedding is the one that is read.
  if (config.tie_word_embeddings) comparison.allow(tensor_name(TensorRole::kLmHead, 0));
  comparison.throw_differences(where);
}

}  // namespace nemo
