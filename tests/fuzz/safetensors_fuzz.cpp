// model.safetensors. The input is a header's text and, after its last zero byte, the size of the data section
// in decimal; the file's first 8 bytes are put right here, or hardly an input would pass them. An input whose
// first byte is zero is the file as it stands.
#include <charconv>

#include "lib/weights/weight_source.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using namespace nemo;

std::string file_of(std::string_view input) {
  if (input.starts_with('\0')) return std::string(input.substr(1));
  const size_t zero = std::min(input.rfind('\0'), input.size());
  const std::string_view header = input.substr(0, zero);
  const std::string_view digits = input.substr(std::min(zero + 1, input.size()));
  uint32_t num_data_bytes = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), num_data_bytes);
  std::string file;
  for (size_t i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> (8 * i));
  file += header;
  return file + std::string(num_data_bytes % 4096, '\1');
}

void read_all(const WeightSource& source, size_t file_bytes) {
  uint64_t total = 0;
  for (const std::string& name : source.names()) {
    const TensorInfo* tensor = source.find(name);
    fuzz::require(tensor != nullptr && tensor->num_bytes <= file_bytes, "a tensor lies in its file");
    std::vector<std::byte> bytes(tensor->num_bytes);
    source.read(*tensor, 0, bytes);
    total += tensor->num_bytes;
  }
  fuzz::require(total <= file_bytes, "tensors do not overlap");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Folder folder;
  const std::string file = file_of(fuzz::text_of(data, size));
  folder.write("model.safetensors", file);
  fuzz::accepts([&] { read_all(*open_checkpoint(folder.path()), file.size()); });
  return 0;
}
