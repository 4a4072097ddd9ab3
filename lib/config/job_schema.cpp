#include "lib/config/job_schema.h"

#include <algorithm>
#include <array>

#include "lib/config/job_value.h"

namespace nemo {
namespace {

constexpr int64_t kMaxRanks = 1 << 20;
constexpr int64_t kMaxThreads = 4096;
constexpr int64_t kMaxSequences = 1 << 20;
constexpr int64_t kMaxRows = 1 << 24;

// Ranges of sampling values are those of sampling_limits.h, checked once all are known; here only integers
// are kept within their type.
constexpr int64_t kAny = INT64_MAX;

void set_formats(const JobValue& value, JobConfig& config) {
  config.write_jsonl = false;
  config.write_hdf5 = false;
  for (const std::string& format : value.texts()) {
    if (format == "jsonl") {
      config.write_jsonl = true;
    } else if (format == "hdf5") {
      config.write_hdf5 = true;
    } else {
      value.fail("'" + format + "' is no output format", "known: jsonl, hdf5");
    }
  }
  if (!config.write_jsonl && !config.write_hdf5)
    value.fail("must name at least one format", "known: jsonl, hdf5");
}

void set_input_paths(const JobValue& value, JobConfig& config) {
  config.input_paths = value.texts();
  if (config.input_paths.empty()) value.fail("must name at least one file", "");
}

void set_name(const JobValue& value, JobConfig& config) {
  config.name = value.text();
  const bool has_control = std::any_of(config.name.begin(), config.name.end(),
                                       [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  if (has_control || config.name.size() > 128) value.fail("must be one line of at most 128 bytes", "");
}

// Waits are counted in whole seconds; less than one would call every slow step a failure.
void set_wait_deadline(const JobValue& value, JobConfig& config) {
  const std::optional<double> seconds = value.duration_or_none();
  if (!seconds || *seconds < 1) value.fail("must be a time of at least one second, like 90s or 5m", "");
  config.limits.wait_deadline_s = *seconds;
}

void set_kv_cache_dtype(const JobValue& value, JobConfig& config) {
  config.engine.kv_cache_dtype = value.one_of({"auto", "fp8"}) == 0 ? KvCacheType::kAuto : KvCacheType::kFp8;
}

using Value = const JobValue&;
using Job = JobConfig&;

constexpr auto kKeys = std::to_array<JobKey>({
    {"name", "text", "the job file's name", "names the job in logs and manifest", set_name},
    {"task", "generate | score", "generate", "continue prompts, or score given continuations",
     [](Value v, Job job) {
       job.task = v.one_of({"generate", "score"}) == 0 ? Task::kGenerate : Task::kScore;
     }},
    {"model.path", "folder or file", "required",
     "a Hugging Face folder: config.json, tokenizer, safetensors; or a pack",
     [](Value v, Job job) { job.model_path = v.text(); }},
    {"model.dtype", "bfloat16 | float32", "bfloat16", "of activations and unquantized weights",
     [](Value v, Job job) {
       job.dtype =
           v.one_of({"bfloat16", "float32"}) == 0 ? ActivationType::kBFloat16 : ActivationType::kFloat32;
     }},
    {"parallel.pipeline", "auto | integer", "auto", "stages that divide the layers",
     [](Value v, Job job) { job.parallel.pipeline = v.integer_or_auto(1, kMaxRanks); }},
    {"parallel.expert", "auto | integer", "auto", "ranks of a stage that divide the experts",
     [](Value v, Job job) { job.parallel.expert = v.integer_or_auto(1, kMaxRanks); }},
    {"parallel.replicas", "auto | integer", "auto", "copies of the whole model",
     [](Value v, Job job) { job.parallel.replicas = v.integer_or_auto(1, kMaxRanks); }},
    {"parallel.threads", "auto | integer", "auto", "of each rank",
     [](Value v, Job job) { job.parallel.threads = v.integer_or_auto(1, kMaxThreads); }},
    {"input.path", "file, glob, or list of them", "required", "prompts: .jsonl or .jsonl.gz",
     set_input_paths},
    {"output.path", "folder", "required", "results, journal and manifest; made if missing",
     [](Value v, Job job) { job.output_path = v.text(); }},
    {"output.formats", "list of jsonl, hdf5", "[jsonl, hdf5]", "what results are written as", set_formats},
    {"sampling.max_tokens", "integer >= 1", "256", "longest output",
     [](Value v, Job job) { job.sampling.max_tokens = v.integer(-kAny, kAny); }},
    {"sampling.min_tokens", "integer >= 0", "0", "no end before so many tokens",
     [](Value v, Job job) { job.sampling.min_tokens = v.integer(-kAny, kAny); }},
    {"sampling.temperature", "number >= 0", "1.0", "0 = always the likeliest token",
     [](Value v, Job job) { job.sampling.temperature = v.number(); }},
    {"sampling.top_p", "number in (0, 1]", "1.0", "smallest set of that probability; 1 = off",
     [](Value v, Job job) { job.sampling.top_p = v.number(); }},
    {"sampling.top_k", "integer >= 0", "0", "only the k likeliest; 0 = off",
     [](Value v, Job job) { job.sampling.top_k = v.integer(-kAny, kAny); }},
    {"sampling.min_p", "number in [0, 1]", "0.0", "only those so likely relative to the likeliest; 0 = off",
     [](Value v, Job job) { job.sampling.min_p = v.number(); }},
    {"sampling.n", "integer >= 1", "1", "samples of each request",
     [](Value v, Job job) { job.sampling.n = v.integer(-kAny, kAny); }},
    {"sampling.seed", "integer >= 0", "0", "the same seed gives the same output",
     [](Value v, Job job) { job.sampling.seed = v.unsigned_integer(); }},
    {"sampling.repetition_penalty", "number > 0", "1.0", "> 1 discourages tokens of prompt and output",
     [](Value v, Job job) { job.sampling.repetition_penalty = v.number(); }},
    {"sampling.frequency_penalty", "number", "0.0", "times a token's count in the output, off its logit",
     [](Value v, Job job) { job.sampling.frequency_penalty = v.number(); }},
    {"sampling.presence_penalty", "number", "0.0", "off the logit of every token in the output",
     [](Value v, Job job) { job.sampling.presence_penalty = v.number(); }},
    {"sampling.stop", "text or list of texts", "[]", "the output ends before the first of these",
     [](Value v, Job job) { job.sampling.stop = v.texts(); }},
    {"sampling.stop_token_ids", "list of integers", "[]", "the output ends at one of these",
     [](Value v, Job job) { job.sampling.stop_token_ids = v.token_ids(); }},
    {"sampling.ignore_eos", "true | false", "false", "go on after the end of text, up to max_tokens",
     [](Value v, Job job) { job.sampling.ignore_eos = v.boolean(); }},
    {"sampling.logprobs", "integer >= 0", "0", "0 = none; N = the token's and those of the N likeliest",
     [](Value v, Job job) { job.sampling.logprobs = v.integer(-kAny, kAny); }},
    {"engine.max_sequences", "auto | integer", "auto", "sequences in work at once, per lane",
     [](Value v, Job job) { job.engine.max_sequences = v.integer_or_auto(1, kMaxSequences); }},
    {"engine.max_batch_tokens", "auto | integer", "auto", "rows of one step of one lane",
     [](Value v, Job job) { job.engine.max_batch_tokens = v.integer_or_auto(1, kMaxRows); }},
    {"engine.prefill_chunk", "auto | integer", "auto", "rows one prompt may take in one step",
     [](Value v, Job job) { job.engine.prefill_chunk = v.integer_or_auto(1, kMaxRows); }},
    {"engine.kv_cache_dtype", "auto | fp8", "auto",
     "auto = model.dtype; fp8 = e4m3, by the checkpoint's scales or 1", set_kv_cache_dtype},
    {"limits.max_time", "none | time like 2h30m", "none", "then stop, resumable, with exit code 75",
     [](Value v, Job job) { job.limits.max_time_s = v.duration_or_none(); }},
    {"limits.memory", "auto | size like 20GiB", "auto",
     "of each rank; auto = its share of the host's free memory",
     [](Value v, Job job) { job.limits.memory_bytes = v.size_or_auto(); }},
    {"limits.wait_deadline", "time like 90s", "5m",
     "longest wait of one rank for another before the job ends", set_wait_deadline},
});

/// "sampling" of "sampling.top_p"; "" of "name".
std::string_view section_of(std::string_view path) {
  const size_t dot = path.find('.');
  return dot == std::string_view::npos ? std::string_view{} : path.substr(0, dot);
}

std::string padded(std::string_view text, size_t width) {
  std::string result(text);
  result.resize(std::max(width, text.size()), ' ');
  return result;
}

}  // namespace

std::span<const JobKey> job_keys() {
  return kKeys;
}

std::vector<std::string> job_sections() {
  std::vector<std::string> sections;
  for (const JobKey& key : kKeys) {
    const std::string section(section_of(key.path));
    if (!section.empty() && (sections.empty() || sections.back() != section)) sections.push_back(section);
  }
  return sections;
}

std::vector<std::string> job_key_names(std::string_view section) {
  std::vector<std::string> names;
  for (const JobKey& key : kKeys) {
    if (section_of(key.path) != section) continue;
    names.emplace_back(section.empty() ? key.path : key.path.substr(section.size() + 1));
  }
  if (section.empty()) {
    for (std::string& name : job_sections()) names.push_back(std::move(name));
  }
  return names;
}

std::string describe_job_keys() {
  std::string text;
  std::string_view section;
  for (const JobKey& key : kKeys) {
    if (section_of(key.path) != section) text += "\n";
    section = section_of(key.path);
    text += "  " + padded(key.path, 28) + padded(key.type, 28) + " " + std::string(key.meaning) + " (" +
            (key.fallback == "required" ? "" : "default: ") + std::string(key.fallback) + ")\n";
  }
  return text;
}

}  // namespace nemo
