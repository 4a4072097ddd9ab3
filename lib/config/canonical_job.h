// The part of a job that decides its results, in one fixed spelling. Two jobs with equal text give equal
// results, so that one may resume the other's journal. Internal to lib/config.
#pragma once

#include <string>

#include "lib/config/job_config.h"

namespace nemo {

/// Valid YAML: task, model.dtype, sampling and engine.kv_cache_dtype, every key present, numbers in their
/// shortest exact form. No paths: a folder that moved holds the same job, and what model and input contain
/// has fingerprints of its own.
std::string canonical_job_yaml(const JobConfig& config);

}  // namespace nemo
