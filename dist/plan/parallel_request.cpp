// What the job's parallel section asks for, and why it may be refused.
#include <algorithm>
#include <limits>

#include "dist/plan/layout_search.h"
#include "kernels/error.h"

namespace nemo::dist {
namespace {

std::string layout_text(const Layout& layout) {
  return std::to_string(layout.replicas) + " x " + std::to_string(layout.pipeline) + " x " +
         std::to_string(layout.expert);
}

double ratio(int64_t a, int64_t b) {
  return static_cast<double>(std::max(a, b)) / static_cast<double>(std::max<int64_t>(1, std::min(a, b)));
}

/// How far a layout is from the request: the factors by which what the job fixes would change.
double distance(const Layout& layout, const ParallelConfig& wanted) {
  double product = 1;
  if (wanted.replicas) product *= ratio(layout.replicas, *wanted.replicas);
  if (wanted.pipeline) product *= ratio(layout.pipeline, *wanted.pipeline);
  if (wanted.expert) product *= ratio(layout.expert, *wanted.expert);
  return product;
}

std::string nearest_layouts(const ModelConfig& model, const ParallelConfig& wanted, int64_t num_ranks) {
  std::vector<Layout> layouts = possible_layouts(model, {}, num_ranks);
  std::stable_sort(layouts.begin(), layouts.end(), [&](const Layout& a, const Layout& b) {
    return distance(a, wanted) < distance(b, wanted);
  });
  constexpr size_t kShown = 3;
  std::string text =
      "nearest with " + std::to_string(num_ranks) + " ranks, as replicas x pipeline x expert: ";
  for (size_t i = 0; i < std::min(kShown, layouts.size()); ++i)
    text += (i == 0 ? "" : ", ") + layout_text(layouts[i]);
  return text;
}

[[noreturn]] void refuse(const JobConfig& job, const std::string& key, const std::string& what,
                         const std::string& remedy) {
  throw Error(job.job_path + ": parallel" + (key.empty() ? "" : "." + key), what, remedy, ErrorKind::kBadJob);
}

void check_limits(const ModelConfig& model, const JobConfig& job, const std::string& nearest) {
  const ParallelConfig& wanted = job.parallel;
  for (const auto& [key, value] :
       {std::pair{"pipeline", wanted.pipeline}, std::pair{"expert", wanted.expert},
        std::pair{"replicas", wanted.replicas}, std::pair{"threads", wanted.threads}})
    if (value && *value < 1)
      refuse(job, key, "must be at least 1, not " + std::to_string(*value), "or leave it at auto");
  if (wanted.pipeline && *wanted.pipeline > max_stages(model))
    refuse(job, "pipeline",
           std::to_string(*wanted.pipeline) + " stages for " + std::to_string(max_stages(model)) +
               " layers: every stage holds at least one",
           nearest);
  if (!wanted.expert || *wanted.expert <= max_lanes(model)) return;
  const bool has_moe = std::any_of(model.layers.begin(), model.layers.end(),
                                   [](const LayerConfig& layer) { return layer.kind == LayerKind::kMoe; });
  if (!has_moe)
    refuse(job, "expert",
           "the model has no mixture-of-experts layers for " + std::to_string(*wanted.expert) +
               " expert ranks to share",
           "use parallel.replicas instead; " + nearest);
  refuse(job, "expert",
         std::to_string(*wanted.expert) + " expert ranks for " + std::to_string(max_lanes(model)) +
             " routed experts: every rank holds at least one of each layer",
         nearest);
}

/// Product of what is fixed; stops growing where no machine is that large.
int64_t fixed_product(const ParallelConfig& wanted) {
  int64_t product = 1;
  for (const auto& value : {wanted.pipeline, wanted.expert, wanted.replicas})
    if (value)
      product = *value > std::numeric_limits<int32_t>::max() / product ? std::numeric_limits<int32_t>::max()
                                                                       : product * *value;
  return product;
}

}  // namespace

int64_t max_stages(const ModelConfig& model) {
  return model.num_layers();
}

int64_t max_lanes(const ModelConfig& model) {
  int64_t fewest = 0;
  for (const LayerConfig& layer : model.layers)
    if (layer.kind == LayerKind::kMoe)
      fewest = fewest == 0 ? layer.n_routed_experts : std::min(fewest, layer.n_routed_experts);
  return std::max<int64_t>(1, fewest);
}

std::vector<Layout> possible_layouts(const ModelConfig& model, const ParallelConfig& fixed,
                                     int64_t num_ranks) {
  std::vector<Layout> layouts;
  for (int64_t lanes = 1; lanes <= std::min(num_ranks, max_lanes(model)); ++lanes) {
    if (num_ranks % lanes != 0 || lanes != fixed.expert.value_or(lanes)) continue;
    const int64_t rest = num_ranks / lanes;
    for (int64_t stages = 1; stages <= std::min(rest, max_stages(model)); ++stages) {
      if (rest % stages != 0 || stages != fixed.pipeline.value_or(stages)) continue;
      const Layout layout{.replicas = rest / stages, .pipeline = stages, .expert = lanes};
      if (layout.replicas == fixed.replicas.value_or(layout.replicas)) layouts.push_back(layout);
    }
  }
  return layouts;
}

void check_parallel_config(const ModelConfig& model, const JobConfig& job, int64_t num_ranks) {
  NEMO_CHECK(num_ranks >= 1, "ranks " + std::to_string(num_ranks));
  const ParallelConfig& wanted = job.parallel;
  const std::string nearest = nearest_layouts(model, wanted, num_ranks);
  check_limits(model, job, nearest);
  if (!possible_layouts(model, wanted, num_ranks).empty()) return;

  const int64_t product = fixed_product(wanted);
  const bool all_fixed = wanted.pipeline && wanted.expert && wanted.replicas;
  std::string fixed;
  for (const auto& [key, value] :
       {std::pair{"replicas", wanted.replicas}, std::pair{"pipeline", wanted.pipeline},
        std::pair{"expert", wanted.expert}})
    if (value) fixed += (fixed.empty() ? "" : " x ") + std::string(key) + " " + std::to_string(*value);
  if (all_fixed || num_ranks % product != 0) {
    const int64_t multiple = all_fixed ? product : std::max<int64_t>(1, num_ranks / product) * product;
    refuse(job, "",
           fixed + (all_fixed ? " makes " : " does not divide ") +
               (all_fixed ? std::to_string(product) + " ranks, but there are " : "") +
               std::to_string(num_ranks) + (all_fixed ? "" : " ranks"),
           "start " + std::to_string(multiple) + " ranks, or " + nearest);
  }
  refuse(job, "",
         fixed + " leaves " + std::to_string(num_ranks / product) + " ranks, more than the model's " +
             std::to_string(max_stages(model)) + " layers and " + std::to_string(max_lanes(model)) +
             " expert ranks can divide",
         nearest);
}

}  // namespace nemo::dist
