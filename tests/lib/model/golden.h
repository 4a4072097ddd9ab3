// The frozen numbers of tests/golden/models: what the reference implementation computes for small random
// models.
#pragma once

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace nemo::test {

inline std::string golden_folder(const std::string& model) {
  return std::string(NEMO_SOURCE_DIR) + "/tests/golden/models/" + model;
}

/// One array of golden.bin: float32, row-major.
struct GoldenArray {
  std::vector<int64_t> shape;
  std::vector<int64_t> positions;  ///< of logits: the token position of each row
  std::vector<double>
      router_margins;  ///< of logits: how close the nearest expert choice up to that position was
  std::vector<float> values;

  const float* row(int64_t i) const { return values.data() + i * shape.back(); }
};

class Golden {
 public:
  explicit Golden(const std::string& model) {
    std::ifstream(golden_folder(model) + "/golden.json") >> json_;
    std::ifstream data(golden_folder(model) + "/" + json_.at("data").get<std::string>(), std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(data), {});
  }

  std::vector<int32_t> prompt(const std::string& name) const { return json_.at("prompts").at(name); }
  std::vector<std::string> prompt_names() const {
    std::vector<std::string> names;
    for (const auto& item : json_.at("prompts").items()) names.push_back(item.key());
    return names;
  }
  const nlohmann::json& greedy() const { return json_.at("greedy"); }

  bool has(const std::string& name) const { return json_.at("arrays").contains(name); }
  GoldenArray array(const std::string& name) const {
    const auto& entry = json_.at("arrays").at(name);
    GoldenArray array;
    array.shape = entry.at("shape").get<std::vector<int64_t>>();
    array.positions = entry.value("positions", std::vector<int64_t>{});
    array.router_margins = entry.value("router_margins", std::vector<double>{});
    int64_t count = 1;
    for (const int64_t size : array.shape) count *= size;
    array.values.resize(static_cast<size_t>(count));
    const auto offset = entry.at("offset").get<size_t>();
    if (offset + array.values.size() * sizeof(float) > bytes_.size()) throw std::out_of_range(name);
    std::memcpy(array.values.data(), bytes_.data() + offset, array.values.size() * sizeof(float));
    return array;
  }

 private:
  nlohmann::json json_;
  std::vector<char> bytes_;
};

}  // namespace nemo::test
