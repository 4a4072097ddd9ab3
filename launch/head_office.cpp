#include "launch/head_office.h"

#include <algorithm>
#include <filesystem>
#include <iostream>

#include "launch/build_info.h"
#include "launch/exit_codes.h"
#include "launch/source_hash.h"
#include "lib/model/kv_scales.h"
#include "lib/output/files.h"
#include "lib/request/fingerprint.h"
#include "lib/weights/checkpoint_fingerprint.h"

namespace nemo::launch {

namespace {

std::string dtype_text(ActivationType dtype) {
  return dtype == ActivationType::kBFloat16 ? "bfloat16" : "float32";
}

/// Quantized weights are never widened in memory, and activations never quantized, whatever the release does.
std::string guarantee_dtype(const JobConfig& job, const ModelConfig& model) {
  const std::string dtype = dtype_text(job.dtype);
  if (model.quantization.empty()) return dtype;
  return dtype + "; weights as stored (" + model.quantization + "), activations not quantized";
}

/// What keys and values are kept in, and by which scales. Looks into the checkpoint for an FP8 cache only.
std::string kv_cache_text(const JobConfig& job, const ModelConfig& model) {
  const kernels::KvFormat format = kv_format(job);
  const std::string kept(kv_format_name(format));
  if (format != kernels::KvFormat::kFp8) {
    const bool is_meant = announces_fp8_kv_cache(model.announced_quantization);
    return is_meant ? kept + "; the checkpoint is made for fp8 too (engine.kv_cache_dtype)" : kept;
  }
  const KvScaleCount count = count_kv_scales(Checkpoint::open(job.model_path, model), model);
  if (count.with_scales == count.layers) return kept + " (e4m3), scales of the checkpoint";
  if (count.with_scales == 0) return kept + " (e4m3), scales of 1: the checkpoint has none";
  return kept + " (e4m3), scales of the checkpoint in " + std::to_string(count.with_scales) + " of " +
         std::to_string(count.layers) + " attention layers, 1 where it has none";
}

std::string build_text() {
  return std::string(kVersion) + ", sources " + kSources + ", " + kCompiler + ", " + kBuildType;
}

std::string reason_text(StopReason reason) {
  switch (reason) {
    case StopReason::kSignal:
      return "a signal";
    case StopReason::kTimeLimit:
      return "limits.max_time";
    case StopReason::kStopFile:
      return "the stop file";
    case StopReason::kNone:
      break;
  }
  return "nothing";
}

}  // namespace

std::chrono::seconds wait_deadline(const JobConfig& job) {
  return std::chrono::seconds(static_cast<int64_t>(job.limits.wait_deadline_s));
}

HeadOffice::HeadOffice(RunFacts facts, const Tokenizer& tokenizer)
    : facts_(std::move(facts)),
      tokenizer_(tokenizer),
      chat_template_(ChatTemplate::find(facts_.job.model_path)),
      kv_cache_(kv_cache_text(facts_.job, facts_.model)),
      folder_(OutputFolder::open(facts_.job.output_path, facts_.fresh)) {
  PromptSource counter = open_input();
  counter.next([](int64_t) { return false; });  // passes over every line
  num_requests_ = counter.num_lines();
  journal_.emplace(folder_.open_journal(identity()));
  num_resumed_ = journal_->index().num_done();
  remove_file(stop_file());  // it stopped an earlier run; starting again means going on
  if (journal_->dropped_bytes() > 0)
    std::cerr << "nemo-dist: dropped " << journal_->dropped_bytes()
              << " bytes of unfinished records at the end of the journal\n";
  if (has_work()) write_manifest(folder_.manifest_path(), manifest(RunStatus::kRunning));
}

PromptSource HeadOffice::open_input() {
  PromptSourceOptions options{.paths = facts_.job.input_paths,
                              .task = facts_.job.task,
                              .sampling = facts_.job.sampling,
                              .max_context = facts_.model.max_position_embeddings,
                              .bos_id = facts_.model.bos_token_id};
  return {std::move(options), tokenizer_, chat_template_ ? &*chat_template_ : nullptr};
}

Identity HeadOffice::identity() const {
  return {{"job", facts_.job.canonical_yaml},
          {"model", fingerprint_checkpoint(facts_.job.model_path)},
          {"tokenizer", fingerprint_tokenizer(facts_.job.model_path)},
          {"input", fingerprint_files(expand_input_paths(facts_.job.input_paths))},
          {"instruction set", std::string(kernels::isa_name(facts_.isa))},
          {"dtype", dtype_text(facts_.job.dtype)},
          {"build", build_text()}};
}

std::function<void()> HeadOffice::open_for_business(dist::Communicator& world) {
  progress_.emplace(detect_progress_style(), num_requests_, num_resumed_);
  progress_->start();
  recorder_.emplace(
      std::move(*journal_), *progress_,
      RecorderOptions{.max_time_s = facts_.job.limits.max_time_s, .start = start_, .stop_file = stop_file()});
  journal_.reset();
  reader_.emplace(open_input(), [this](int64_t index) { return !recorder_->done(index); });
  const dist::Layout& layout = facts_.plan.layout;
  std::vector<int> lane_heads;
  for (int64_t replica = 0; replica < layout.replicas; ++replica)
    for (int64_t lane = 0; lane < layout.expert; ++lane)
      lane_heads.push_back(
          static_cast<int>(facts_.plan.rank({.replica = replica, .stage = 0, .lane = lane})));
  // A rank beside the silent lane sees more of the trouble than its silence; it is to speak first.
  const auto longest_silence = 2 * wait_deadline(facts_.job);
  coordinator_.emplace(world, std::move(lane_heads), longest_silence, *reader_, *recorder_, *progress_);
  return [this] { coordinator_->pump(); };
}

void HeadOffice::wait_for_lanes() {
  coordinator_->wait_for_lanes();
  stop_reason_ = recorder_->stop_reason();
  run_seconds_ = progress_->seconds();
  journal_.emplace(recorder_->finish());
  reader_.reset();
}

void HeadOffice::save_what_is_done() noexcept {
  try {
    if (recorder_ && !journal_) journal_.emplace(recorder_->finish());
    if (journal_) write_manifest(folder_.manifest_path(), manifest(RunStatus::kFailed));
  } catch (const std::exception& error) {
    std::cerr << "nemo-dist: journal and manifest could not be completed: " << error.what() << '\n';
  }
}

Manifest HeadOffice::manifest(RunStatus status) const {
  const dist::Plan& plan = facts_.plan;
  return {
      .name = facts_.job.name,
      .task = facts_.job.task,
      .status = status,
      .fingerprints = identity(),
      .guarantee = {.promise =
                        "the same tokens and logprobs for a request on any number of ranks, layout, threads, "
                        "batch and order, and after any crash, within one instruction set, dtype and build",
                    .instruction_set = std::string(kernels::isa_name(facts_.isa)),
                    .dtype = guarantee_dtype(facts_.job, facts_.model),
                    .kv_cache = kv_cache_,
                    .build = build_text()},
      .num_requests = num_requests_,
      .num_done = journal_->index().num_done(),
      .num_resumed = num_resumed_,
      .totals = {},
      .computed_tokens = journal_->index().work().prompt_tokens + journal_->index().work().output_tokens,
      .layout = {.world_size = plan.layout.num_ranks(),
                 .replicas = plan.layout.replicas,
                 .pipeline = plan.layout.pipeline,
                 .expert = plan.layout.expert,
                 .threads = plan.threads,
                 .hosts = facts_.hosts},
      .versions = {{"nemo-dist", kVersion}, {"mpi", facts_.mpi_version}},
      .timings_s = {},
      .result_files = {}};
}

void HeadOffice::write_result_files(Manifest& manifest) {
  const ResultOptions options{
      .columns = ResultColumns::of(facts_.job, journal_->index()),
      .fingerprints = journal_->identity(),
      .model = facts_.model.name,
      .token_bytes = [this](int32_t id) { return std::string(tokenizer_.token_bytes(id)); }};
  std::vector<std::unique_ptr<ResultWriter>> writers;
  if (facts_.job.write_jsonl) {
    writers.push_back(make_jsonl_writer(folder_.jsonl_path(), options));
    manifest.result_files.push_back(std::filesystem::path(folder_.jsonl_path()).filename());
  }
  if (facts_.job.write_hdf5) {
    writers.push_back(make_hdf5_writer(folder_.hdf5_path(), options));
    manifest.result_files.push_back(std::filesystem::path(folder_.hdf5_path()).filename());
  }
  JournalReader reader = journal_->reader();
  manifest.totals = write_results(reader, num_requests_, writers, facts_.model.max_position_embeddings);
  manifest.recomputed_tokens = std::max<int64_t>(0, manifest.computed_tokens - manifest.totals.needed_tokens);
}

WeightBytes HeadOffice::weight_bytes(const LoadFacts& load) const {
  WeightBytes bytes{.read = load.bytes_read, .planned = {}};
  for (size_t rank = 0; rank < bytes.read.size(); ++rank) {
    const dist::Position at = facts_.plan.position(static_cast<int64_t>(rank));
    const dist::StagePlan& stage = facts_.plan.stages[static_cast<size_t>(at.stage)];
    bytes.planned.push_back(stage.weight_bytes[static_cast<size_t>(at.lane)]);
  }
  return bytes;
}

int HeadOffice::close(const LoadFacts& load, const Traffic& traffic) {
  const bool complete = journal_->index().num_done() >= num_requests_;
  Manifest summary = manifest(complete ? RunStatus::kComplete : RunStatus::kStopped);
  summary.timings_s = {{"load", load.seconds}, {"run", run_seconds_}};
  summary.weight_bytes = weight_bytes(load);
  const TrafficReport sent = report_traffic(traffic, facts_.model, facts_.job, facts_.plan.layout);
  summary.communication = sent.figures;
  if (complete) write_result_files(summary);
  write_manifest(folder_.manifest_path(), summary);
  if (coordinator_ && coordinator_->misfits().count > 0) throw_misfits(summary);
  NEMO_CHECK(complete || stop_reason_ != StopReason::kNone, "the lanes ended before the requests did");
  print_summary(summary, stop_reason_);
  if (!sent.line.empty()) std::cout << sent.line << '\n' << std::flush;
  return complete ? kExitDone : kExitStopped;
}

void HeadOffice::throw_misfits(const Manifest& manifest) const {
  const Coordinator::Misfits& misfits = coordinator_->misfits();
  throw Error("",
              count_text(misfits.count) + " requests need more memory than a lane has; " +
                  count_text(manifest.num_done) + " of " + count_text(manifest.num_requests) +
                  " are done and safe in " + folder_.journal_path() + ". First " + misfits.first,
              "start the job again with more ranks or memory; see --plan");
}

void HeadOffice::print_summary(const Manifest& manifest, StopReason reason) const {
  if (manifest.status == RunStatus::kStopped) {
    std::cout << "stopped by " << reason_text(reason) << ": " << count_text(manifest.num_done) << " of "
              << count_text(manifest.num_requests) << " requests are done and safe in "
              << folder_.journal_path() << "; the same command resumes\n"
              << std::flush;
    return;
  }
  std::cout << "done: " << count_text(manifest.totals.requests) << " requests, "
            << count_text(manifest.totals.errors) << " with errors, "
            << count_text(manifest.totals.prompt_tokens) << " tokens in, "
            << count_text(manifest.totals.output_tokens) << " tokens out";
  if (manifest.num_resumed < manifest.num_requests && run_seconds_ > 0) {
    std::cout << " in " << duration_text(run_seconds_) << " ("
              << count_text(
                     static_cast<int64_t>(static_cast<double>(progress_->output_tokens()) / run_seconds_))
              << " tokens/s out)";
  }
  if (manifest.num_resumed > 0 && manifest.recomputed_tokens > 0)
    std::cout << ", " << count_text(manifest.recomputed_tokens) << " tokens computed again";
  std::cout << "\nresults:";
  for (const std::string& file : manifest.result_files) std::cout << ' ' << folder_.path() << '/' << file;
  std::cout << '\n' << std::flush;
}

}  // namespace nemo::launch
