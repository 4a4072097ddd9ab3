// model.safetensors.index.json beside two whole shards, a.safetensors and b.safetensors.
#include "lib/weights/weight_source.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/lib/weights/safetensors_writer.h"

namespace {

using namespace nemo;

void write_shards(const fuzz::Folder& folder) {
  SafetensorsWriter a, b;
  a.add_zeros("x", DType::kF32, {2, 3});
  a.add_zeros("y", DType::kBF16, {4});
  b.add_zeros("z", DType::kU8, {5});
  a.write(folder.path() + "/a.safetensors");
  b.write(folder.path() + "/b.safetensors");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Folder folder;
  static const bool once = (write_shards(folder), true);
  (void)once;
  folder.write("model.safetensors.index.json", fuzz::text_of(data, size));
  fuzz::accepts([] {
    const auto source = open_checkpoint(folder.path());
    for (const std::string& name : source->names()) {
      fuzz::require(name == "x" || name == "y" || name == "z", "only tensors of the shards are there");
    }
  });
  return 0;
}
