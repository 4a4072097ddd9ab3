// manifest.json: what a run was made from and by, what it promises and what it did. Written at start and
// replaced at the end: one that says "running" is of a run under way or one that was killed. Unlike the
// results it may hold times and layout.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lib/output/journal.h"
#include "lib/output/results.h"
#include "lib/request/request.h"

namespace nemo {

/// How far "same bits" reaches for this run: between runs that agree in all but the first.
struct Guarantee {
  std::string promise;          ///< one sentence for people
  std::string instruction_set;  ///< "avx512", "avx2", "cuda sm_90", ...
  std::string dtype;            ///< of activations
  std::string kv_cache;         ///< what keys and values are kept in, and by which scales
  std::string build;            ///< what identifies the binary
};

/// How the ranks were used. Does not influence the results.
struct LayoutSummary {
  int64_t world_size = 1;
  int64_t replicas = 1;
  int64_t pipeline = 1;
  int64_t expert = 1;
  int64_t threads = 1;  ///< per rank
  std::vector<std::string> hosts;
};

/// Bytes of weights by rank. Of a pack both are equal; a folder holds them in other layouts, without the
/// padding of a kernel's, or in other types. Empty where nothing was left to compute.
struct WeightBytes {
  std::vector<int64_t> read;
  std::vector<int64_t> planned;  ///< in memory
};

enum class RunStatus { kRunning, kStopped, kFailed, kComplete };

struct Manifest {
  std::string name;
  Task task = Task::kGenerate;
  RunStatus status = RunStatus::kRunning;
  Identity fingerprints;
  Guarantee guarantee;
  int64_t num_requests = 0;
  int64_t num_done = 0;
  int64_t num_resumed = 0;      ///< of num_done: found in the journal at start
  ResultTotals totals;          ///< of what is done
  int64_t computed_tokens = 0;  ///< by all runs so far: rows of prompts and tokens drawn or scored
  int64_t recomputed_tokens =
      0;  ///< of them: once complete, those that an undisturbed run would not have needed
  LayoutSummary layout;
  WeightBytes weight_bytes;
  /// What the ranks sent each other, measured and planned: (figure, value).
  std::vector<std::pair<std::string, double>> communication;
  std::vector<std::pair<std::string, std::string>> versions;  ///< (component, version)
  std::vector<std::pair<std::string, double>> timings_s;      ///< (phase, seconds)
  std::vector<std::string> result_files;                      ///< relative to the output folder
};

/// Pretty-printed JSON with a fixed order of keys, ending in a newline.
std::string to_json(const Manifest& manifest);

/// Replaces the file at once: a reader sees the old or the new one, whole. Throws Error.
void write_manifest(const std::string& path, const Manifest& manifest);

}  // namespace nemo
