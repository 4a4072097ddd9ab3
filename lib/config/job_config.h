// JobConfig: the YAML job of DESIGN.md section 6, validated once, then const.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/request/request.h"

namespace nemo {

/// `auto` in the YAML is std::nullopt here.
struct ParallelConfig {
  std::optional<int64_t> pipeline;
  std::optional<int64_t> expert;
  std::optional<int64_t> replicas;
  std::optional<int64_t> threads;  ///< per rank
};

/// What keys and values of attention are kept in.
enum class KvCacheType : uint8_t {
  kAuto,  ///< model.dtype
  kFp8,   ///< e4m3, with the checkpoint's scales
};

struct EngineConfig {
  std::optional<int64_t> max_sequences;     ///< per lane
  std::optional<int64_t> max_batch_tokens;  ///< rows of one step of one lane
  std::optional<int64_t> prefill_chunk;     ///< rows one prompt may take in one step
  KvCacheType kv_cache_dtype = KvCacheType::kAuto;
};

struct LimitsConfig {
  std::optional<double> max_time_s;     ///< none = no limit
  std::optional<int64_t> memory_bytes;  ///< per rank; auto = this host's free memory divided by its ranks
  double wait_deadline_s = 300;         ///< longest that one rank waits for another while steps run
};

enum class ActivationType : uint8_t { kBFloat16, kFloat32 };

struct JobConfig {
  std::string job_path;  ///< as given on the command line; names the file in errors
  std::string name;      ///< default: the job file's stem
  Task task = Task::kGenerate;
  std::string model_path;  ///< absolute
  ActivationType dtype = ActivationType::kBFloat16;
  ParallelConfig parallel;
  std::vector<std::string> input_paths;  ///< absolute, globs not expanded
  std::string output_path;               ///< absolute
  bool write_jsonl = true;
  bool write_hdf5 = true;
  SamplingParams sampling;
  EngineConfig engine;
  LimitsConfig limits;
  std::string canonical_yaml;  ///< what decides the results besides the contents of model and input (task,
                               ///< dtypes, sampling), in one fixed spelling
};

/// Reads `path`, applies `overrides` ("a.b=value", later ones win), validates. Relative paths are relative to
/// the job file. Throws Error(kBadJob) naming file, line, key, the nearest known key for a typo, and the
/// remedy.
JobConfig load_job_config(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace nemo
