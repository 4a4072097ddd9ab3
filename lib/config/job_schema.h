// The one table of the job file's keys: name, type, default and meaning. Reading, "did you mean", --help and
// the documentation all come from it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/config/job_config.h"

namespace nemo {

class JobValue;

struct JobKey {
  std::string_view path;      ///< "sampling.top_p"
  std::string_view type;      ///< for people: "number in (0, 1]"
  std::string_view fallback;  ///< the default as it would be written, or "required"
  std::string_view meaning;
  void (*set)(const JobValue& value, JobConfig& config);  ///< converts, checks, stores
};

/// All keys in the order of DESIGN.md section 6.
std::span<const JobKey> job_keys();

/// Sections ("model", "sampling", ...) in order of first use.
std::vector<std::string> job_sections();

/// Names of the keys of `section` without it; "" gives what may stand at the top: sections and plain keys.
std::vector<std::string> job_key_names(std::string_view section);

/// A paragraph a section, a line a key: the part of --help on job files.
std::string describe_job_keys();

}  // namespace nemo
