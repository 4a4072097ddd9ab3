// The job's YAML and, after a zero byte each, two overrides as --set has them.
#include "lib/config/job_config.h"
#include "lib/config/sampling_limits.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemo;
  static const fuzz::Folder folder;
  const std::vector<std::string> parts = fuzz::split(fuzz::text_of(data, size), 3);
  const std::string path = folder.write("job.yaml", parts[0]);
  std::vector<std::string> overrides;
  for (size_t i = 1; i < parts.size(); ++i) {
    if (!parts[i].empty()) overrides.push_back(parts[i]);
  }
  fuzz::accepts([&] {
    const JobConfig config = load_job_config(path, overrides);
    fuzz::require(!find_sampling_fault(config.sampling), "sampling values are in their limits");
    fuzz::require(!config.canonical_yaml.empty(), "a job has a canonical form");
  });
  return 0;
}
