#include "launch/plan_printer.h"

#include <algorithm>
#include <vector>

#include "dist/plan/memory.h"
#include "kernels/ops/attention.h"
#include "launch/machine.h"
#include "launch/text_sheet.h"
#include "lib/config/parameter_count.h"
#include "lib/state/state_cache.h"

namespace nemo::launch {
namespace {

int64_t total_weight_bytes(const dist::Plan& plan) {
  int64_t bytes = 0;
  for (const dist::StagePlan& stage : plan.stages)
    for (const int64_t lane : stage.weight_bytes) bytes += lane;
  return bytes;
}

/// "M 7 E 7 * 1".
std::string kinds_text(const ModelConfig& model, const dist::LayerRange& layers) {
  std::string result;
  for (const LayerKind kind : {LayerKind::kMamba, LayerKind::kMoe, LayerKind::kMlp, LayerKind::kAttention}) {
    int64_t count = 0;
    for (int64_t i = layers.begin; i < layers.end; ++i)
      count += model.layers[static_cast<size_t>(i)].kind == kind ? 1 : 0;
    if (count > 0) result += text("%s%c %ld", result.empty() ? "" : " ", layer_letter(kind), count);
  }
  return result;
}

/// The largest block of experts in a lane of the stage, as "64 of 512"; "-" without MoE layers.
std::string experts_text(const ModelConfig& model, const dist::Plan& plan, const dist::LayerRange& layers) {
  int64_t most = 0, of = 0;
  for (int64_t i = layers.begin; i < layers.end; ++i)
    for (const kernels::ExpertRange& block : plan.experts[static_cast<size_t>(i)]) {
      if (block.end - block.begin <= most) continue;
      most = block.end - block.begin;
      of = model.layers[static_cast<size_t>(i)].n_routed_experts;
    }
  return most == 0 ? "-" : text("%ld of %ld", most, of);
}

void print_model(Sheet& sheet, const ModelConfig& model, const JobConfig& job, const dist::Plan& plan) {
  const dist::LayerRange all{0, model.num_layers()};
  sheet.entry("parameters", grouped(total_parameters(model)));
  if (mtp_parameters(model) > 0)
    sheet.more(grouped(mtp_parameters(model)) + " more for multi-token prediction, which is not loaded");
  sheet.entry("active", grouped(active_parameters(model)) + " a token, output head included");
  sheet.more(grouped(active_parameters_with_embedding(model)) + " with the input embedding too");
  std::string kept = job.dtype == ActivationType::kBFloat16 ? "bfloat16" : "float32";
  if (!model.quantization.empty()) kept += "; quantized ones stay as stored (" + model.quantization + ")";
  sheet.entry("layers", grouped(model.num_layers()) + ": " + kinds_text(model, all));
  sheet.entry("weights", kept + ", " + bytes_text(total_weight_bytes(plan)) + " over the ranks of a replica");
}

void print_layout(Sheet& sheet, const dist::Plan& plan) {
  const dist::Layout& layout = plan.layout;
  sheet.entry("layout", plural(layout.num_ranks(), "rank") + " = " + plural(layout.replicas, "replica") +
                            " x " + plural(layout.pipeline, "stage") + " x " +
                            plural(layout.expert, "expert rank"));
  const auto num_fitting = std::count_if(plan.considered.begin(), plan.considered.end(),
                                         [](const dist::LayoutEstimate& e) { return e.tokens_per_s > 0; });
  if (plan.considered.size() == 1) {
    sheet.more("the only layout that the job's parallel section and the model allow");
    return;
  }
  sheet.more(text("chosen from %zu, of which %ld fit, for %s", plan.considered.size(),
                  static_cast<long>(num_fitting),
                  plan.fits() ? "decode speed" : "the least memory on a rank"));
  std::string next;
  constexpr size_t kShown = 3;
  for (size_t i = 1; i < plan.considered.size() && i <= kShown && plan.considered[i].tokens_per_s > 0; ++i)
    next +=
        text("%s%s (%.0f %%)", next.empty() ? "next: " : ", ", layout_text(plan.considered[i].layout).c_str(),
             100 * plan.considered[i].tokens_per_s / plan.tokens_per_s);
  if (!next.empty()) sheet.more(next);
}

void print_machine(Sheet& sheet, const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                   const dist::Machine& machine) {
  const char* source = job.limits.memory_bytes
                           ? "limits.memory"
                           : "its share of a host; limits.memory or --host-memory for others";
  sheet.entry("assumed", bytes_text(machine.memory_per_rank) + " a rank (" + source + ")");
  sheet.more(plural(machine.ranks_per_host, "rank") + " a host, " + plural(plan.threads, "thread") +
             " a rank");
  const std::optional<int64_t> fewest = dist::smallest_num_ranks(model, job, machine);
  if (plan.fits() && fewest)
    sheet.more("the fewest ranks of this memory that fit: " + grouped(*fewest) + "; --np N plans for others");
}

void print_stages(Sheet& sheet, const ModelConfig& model, const dist::Plan& plan) {
  double total = 0, slowest = 0;
  for (const dist::StagePlan& stage : plan.stages) {
    total += stage.cost;
    slowest = std::max(slowest, stage.cost);
  }
  sheet.raw(text("%5s  %-10s  %-20s %10s %9s %9s %9s %9s %6s", "stage", "layers", "kinds", "experts",
                 "weights", "state/seq", "KV/token", "buffers", "cost"));
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const dist::StagePlan& stage = plan.stages[i];
    sheet.raw(text("%5zu  %-10s  %-20s %10s %9s %9s %9s %9s %4.1f %%", i,
                   text("[%ld, %ld)", stage.layers.begin, stage.layers.end).c_str(),
                   kinds_text(model, stage.layers).c_str(), experts_text(model, plan, stage.layers).c_str(),
                   bytes_text(stage.weight_bytes[0]).c_str(),
                   bytes_text(stage.state_bytes_per_sequence).c_str(),
                   bytes_text(stage.kv_bytes_per_token).c_str(), bytes_text(stage.buffer_bytes).c_str(),
                   100 * stage.cost / total));
  }
  sheet.raw(text("%5s  a rank of each stage, lane 0; slowest stage / mean = %.2f", "",
                 slowest * static_cast<double>(plan.stages.size()) / total));
}

/// "lane 0 [0, 22), lane 1 [22, 43), ...": the blocks of the first MoE layer.
void print_experts(Sheet& sheet, const dist::Plan& plan) {
  const auto moe =
      std::find_if(plan.experts.begin(), plan.experts.end(), [](const auto& b) { return !b.empty(); });
  if (moe == plan.experts.end() || moe->size() == 1) return;
  constexpr size_t kShown = 4;
  std::string line;
  for (size_t lane = 0; lane < moe->size(); ++lane) {
    const bool is_hidden = moe->size() > kShown && lane >= kShown - 1 && lane + 1 < moe->size();
    if (is_hidden && lane == kShown - 1) line += ", ...";
    if (is_hidden) continue;
    line +=
        text("%slane %zu [%ld, %ld)", line.empty() ? "" : ", ", lane, (*moe)[lane].begin, (*moe)[lane].end);
  }
  sheet.entry("experts", line);
}

/// Sequences of `context` tokens that a lane runs at once, at a few lengths up to the longest it can hold.
std::string capacity_text(const ModelConfig& model, const dist::Plan& plan) {
  const int64_t room = plan.kv_pages * kernels::kKvPageTokens;
  const int64_t longest = std::min(model.max_position_embeddings, room);
  std::vector<int64_t> contexts = {plan.typical_context};
  for (const int64_t context : {int64_t{8192}, int64_t{65536}, longest})
    if (context > contexts.back() && context <= longest) contexts.push_back(context);
  std::string line;
  for (const int64_t context : contexts) {
    const int64_t num_sequences = std::min(plan.max_sequences, plan.kv_pages / kernels::kv_pages_of(context));
    line += (line.empty() ? "" : ", ") + grouped(num_sequences) + " of " + grouped(context);
  }
  return line + " tokens";
}

void print_sequences(Sheet& sheet, const ModelConfig& model, const dist::Plan& plan) {
  const int64_t num_lanes = plan.layout.replicas * plan.layout.expert;
  sheet.entry("sequences", grouped(plan.max_sequences) + " at once in each of " + plural(num_lanes, "lane") +
                               " = " + grouped(plan.max_sequences * num_lanes));
  const bool has_pages =
      std::any_of(plan.stages.begin(), plan.stages.end(),
                  [](const dist::StagePlan& stage) { return stage.kv_bytes_per_token > 0; });
  if (has_pages) {
    sheet.more("KV room for " + grouped(plan.kv_pages * kernels::kKvPageTokens) + " tokens a lane (" +
               plural(plan.kv_pages, "page") + "), kept in " + std::string(kv_format_name(plan.kv_format)));
    sheet.more("a lane holds " + capacity_text(model, plan));
  }
  sheet.entry("steps", "at most " + plural(plan.max_batch_tokens, "row") + ", prompts in chunks of " +
                           grouped(plan.prefill_chunk));
}

void print_wire(Sheet& sheet, const ModelConfig& model, const JobConfig& job, const dist::Plan& plan) {
  const dist::WireBytes wire = dist::wire_bytes_per_token(model, job, plan.layout);
  const auto num_moe = std::count_if(model.layers.begin(), model.layers.end(),
                                     [](const LayerConfig& layer) { return layer.kind == LayerKind::kMoe; });
  const int64_t num_boundaries = plan.layout.pipeline - 1;
  const double per_layer = wire.dispatch_per_moe_layer + wire.combine_per_moe_layer;
  if (per_layer == 0 && num_boundaries == 0) {
    sheet.entry("on the wire", "nothing but requests and results");
    return;
  }
  const double total = static_cast<double>(num_moe) * per_layer +
                       static_cast<double>(num_boundaries * wire.per_stage_boundary);
  sheet.entry("on the wire", bytes_text(total) + " a token");
  if (per_layer > 0)
    sheet.more("each of " + plural(num_moe, "MoE layer") + ": " + bytes_text(wire.dispatch_per_moe_layer) +
               text(" to %.1f other ranks, ", wire.ranks_per_moe_layer) +
               bytes_text(wire.combine_per_moe_layer) + " back");
  if (num_boundaries > 0)
    sheet.more("each of " + plural(num_boundaries, "stage border") + ": " +
               bytes_text(wire.per_stage_boundary));
}

void print_shortage(Sheet& sheet, const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                    const dist::Machine& machine) {
  const std::string sequences = job.engine.max_sequences
                                    ? plural(*job.engine.max_sequences, "sequence")
                                    : "one sequence of " + grouped(plan.typical_context) + " tokens";
  sheet.entry("does not fit", text("a rank of stage %ld needs ", plan.least_bytes_stage) +
                                  bytes_text(plan.least_bytes) + " with " + sequences + ",");
  sheet.more(bytes_text(plan.least_bytes - machine.memory_per_rank) + " more than it has");
  const std::optional<int64_t> enough = dist::smallest_num_ranks(model, job, machine);
  sheet.entry("would fit", enough ? plural(*enough, "rank") + " of this memory"
                                  : "no number of ranks of this memory: raise limits.memory");
}

}  // namespace

dist::Machine assume_machine(const JobConfig& job, const PlanOptions& options, int64_t num_ranks) {
  const int64_t ranks = options.ranks_per_host;
  const int64_t cores = options.cores_per_host.value_or(available_cores());
  const int64_t memory =
      options.host_memory_bytes ? usable_memory(*options.host_memory_bytes) : available_memory();
  return {.num_ranks = num_ranks,
          .ranks_per_host = ranks,
          .memory_per_rank = job.limits.memory_bytes.value_or(memory / ranks),
          .cores_per_rank = std::max<int64_t>(1, cores / ranks),
          .oversubscribed_cores = cores < ranks ? cores : 0};
}

std::string layout_text(const dist::Layout& layout) {
  return text("%ld x %ld x %ld", layout.replicas, layout.pipeline, layout.expert);
}

int64_t default_num_ranks(const ModelConfig& model, const JobConfig& job, const dist::Machine& machine) {
  const ParallelConfig& fixed = job.parallel;
  const int64_t product = fixed.pipeline.value_or(1) * fixed.expert.value_or(1) * fixed.replicas.value_or(1);
  if (fixed.pipeline && fixed.expert && fixed.replicas) return product;
  return dist::smallest_num_ranks(model, job, machine).value_or(product);
}

std::string plan_text(const ModelConfig& model, const JobConfig& job, const dist::Plan& plan,
                      const dist::Machine& machine, const Forecast& forecast) {
  Sheet sheet;
  sheet.entry("model", model.name + (plan.fits() ? "" : ": DOES NOT FIT on these ranks, see below"));
  print_model(sheet, model, job, plan);
  print_layout(sheet, plan);
  print_machine(sheet, model, job, plan, machine);
  sheet.blank();
  print_stages(sheet, model, plan);
  sheet.blank();
  print_experts(sheet, plan);
  if (plan.fits()) {
    print_sequences(sheet, model, plan);
  } else {
    print_shortage(sheet, model, job, plan, machine);
  }
  print_wire(sheet, model, job, plan);
  if (plan.fits()) print_forecast(sheet, plan, forecast);
  return sheet.take();
}

}  // namespace nemo::launch
