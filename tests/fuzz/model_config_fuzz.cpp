// config.json: what is accepted must have tensors that can be counted.
#include "lib/config/model_config.h"
#include "lib/config/parameter_count.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemo;
  fuzz::accepts([&] {
    const ModelConfig config = parse_model_config(fuzz::text_of(data, size), "config.json");
    fuzz::require(!config.layers.empty(), "a model has layers");
    const int64_t total = total_parameters(config);
    const int64_t active = active_parameters(config);
    fuzz::require(total > 0 && active > 0, "parameters can be counted");
    fuzz::require(mtp_parameters(config) >= 0, "those of the MTP head too");
  });
  return 0;
}
