#include <nlohmann/json.hpp>

#include "launch/plan_printer.h"
#include "lib/config/parameter_count.h"
#include "lib/state/state_cache.h"

namespace nemo::launch {
namespace {

using Json = nlohmann::ordered_json;

Json range_json(int64_t begin, int64_t end) {
  return Json::array({begin, end});
}

Json layout_json(const dist::Layout& layout) {
  return {{"replicas", layout.replicas}, {"pipeline", layout.pipeline}, {"expert", layout.expert}};
}

/// The lane's block if it is the same in all MoE layers of the stage; null without such layers or if blocks
/// differ.
Json uniform_experts(const dist::Plan& plan, const dist::LayerRange& layers, int64_t lane) {
  Json experts;
  for (int64_t i = layers.begin; i < layers.end; ++i) {
    const auto& blocks = plan.experts[static_cast<size_t>(i)];
    if (blocks.empty()) continue;
    const kernels::ExpertRange& block = blocks[static_cast<size_t>(lane)];
    Json range = range_json(block.begin, block.end);
    if (!experts.is_null() && experts != range) return nullptr;
    experts = std::move(range);
  }
  return experts;
}

Json ranks_json(const dist::Plan& plan) {
  Json ranks = Json::array();
  for (int64_t rank = 0; rank < plan.layout.num_ranks(); ++rank) {
    const dist::Position at = plan.position(rank);
    const dist::StagePlan& stage = plan.stages[static_cast<size_t>(at.stage)];
    ranks.push_back({{"rank", rank},
                     {"replica", at.replica},
                     {"stage", at.stage},
                     {"lane", at.lane},
                     {"layers", range_json(stage.layers.begin, stage.layers.end)},
                     {"experts", uniform_experts(plan, stage.layers, at.lane)},
                     {"weight_bytes", stage.weight_bytes[static_cast<size_t>(at.lane)]},
                     {"buffer_bytes", stage.buffer_bytes},
                     {"state_bytes_per_sequence", stage.state_bytes_per_sequence},
                     {"kv_bytes_per_token", stage.kv_bytes_per_token},
                     {"total_bytes", plan.rank_bytes(at.stage, at.lane)}});
  }
  return ranks;
}

Json stages_json(const dist::Plan& plan) {
  Json stages = Json::array();
  for (const dist::StagePlan& stage : plan.stages)
    stages.push_back({{"layers", range_json(stage.layers.begin, stage.layers.end)}, {"cost_us", stage.cost}});
  return stages;
}

/// Blocks by layer and lane: what "experts" of a rank cannot say for models whose layers differ.
Json experts_json(const dist::Plan& plan) {
  Json layers = Json::object();
  for (size_t i = 0; i < plan.experts.size(); ++i) {
    if (plan.experts[i].empty()) continue;
    Json& blocks = layers[std::to_string(i)] = Json::array();
    for (const kernels::ExpertRange& block : plan.experts[i])
      blocks.push_back(range_json(block.begin, block.end));
  }
  return layers;
}

Json wire_json(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan) {
  const dist::WireBytes wire = dist::wire_bytes_per_token(model, job, plan.layout);
  int64_t num_moe_layers = 0;
  for (const LayerConfig& layer : model.layers) num_moe_layers += layer.kind == LayerKind::kMoe ? 1 : 0;
  const double total =
      static_cast<double>(num_moe_layers) * (wire.dispatch_per_moe_layer + wire.combine_per_moe_layer) +
      static_cast<double>((plan.layout.pipeline - 1) * wire.per_stage_boundary);
  return {{"dispatch_per_moe_layer", wire.dispatch_per_moe_layer},
          {"combine_per_moe_layer", wire.combine_per_moe_layer},
          {"ranks_per_moe_layer", wire.ranks_per_moe_layer},
          {"per_stage_boundary", wire.per_stage_boundary},
          {"num_moe_layers", num_moe_layers},
          {"num_stage_boundaries", plan.layout.pipeline - 1},
          {"total", total}};
}

Json considered_json(const dist::Plan& plan) {
  Json layouts = Json::array();
  for (const dist::LayoutEstimate& estimate : plan.considered) {
    Json layout = layout_json(estimate.layout);
    layout["fits"] = estimate.tokens_per_s > 0;
    layout["estimated_tokens_per_s"] = estimate.tokens_per_s;
    layouts.push_back(std::move(layout));
  }
  return layouts;
}

}  // namespace

std::string plan_json(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                      const dist::Machine& machine, const Forecast& forecast) {
  Json json;
  json["model"] = model.name;
  json["total_parameters"] = total_parameters(model);
  json["active_parameters"] = active_parameters(model);
  json["active_parameters_with_embedding"] = active_parameters_with_embedding(model);
  json["mtp_parameters"] = mtp_parameters(model);
  json["fits"] = plan.fits();
  json["least_bytes_per_rank"] = plan.least_bytes;
  const std::optional<int64_t> smallest = dist::smallest_num_ranks(model, job, machine);
  json["smallest_num_ranks"] = smallest ? Json(*smallest) : Json(nullptr);
  json["layout"] = layout_json(plan.layout);
  json["num_ranks"] = plan.layout.num_ranks();
  json["machine"] = {{"ranks_per_host", machine.ranks_per_host},
                     {"memory_per_rank", machine.memory_per_rank},
                     {"cores_per_rank", machine.cores_per_rank},
                     {"memory_from", job.limits.memory_bytes ? "limits.memory" : "host"}};
  json["engine"] = {{"max_sequences", plan.max_sequences},
                    {"max_batch_tokens", plan.max_batch_tokens},
                    {"prefill_chunk", plan.prefill_chunk},
                    {"kv_pages", plan.kv_pages},
                    {"kv_cache_dtype", kv_format_name(plan.kv_format)},
                    {"typical_context", plan.typical_context},
                    {"threads", plan.threads}};
  json["wire_bytes_per_token"] = wire_json(model, job, plan);
  json["estimated_tokens_per_s"] = plan.tokens_per_s;
  json["prediction"] = forecast_json(forecast);
  json["considered"] = considered_json(plan);
  json["stages"] = stages_json(plan);
  json["experts"] = experts_json(plan);
  json["ranks"] = ranks_json(plan);
  json["fingerprint"] = dist::plan_fingerprint(plan);
  return json.dump(2) + "\n";
}

}  // namespace nemo::launch
