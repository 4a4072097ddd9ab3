// Packs. The input is the JSON of /about, whose checksum is put right here; an input whose first byte is zero
// is the file as it stands.
#include <algorithm>

#include "lib/output/checksum.h"
#include "lib/weights/pack/pack_file.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using namespace nemo;

void one_after_another(int64_t num_pieces, const std::function<void(int64_t)>& piece) {
  for (int64_t i = 0; i < num_pieces; ++i) piece(i);
}

void read_all(const PackFile& pack, size_t file_bytes) {
  for (const auto& [name, tensor] : pack.about().tensors) {
    const PackFile::Place& place = pack.place(name);
    fuzz::require(place.part_bytes > 0 && place.num_parts <= file_bytes / place.part_bytes,
                  "a tensor lies in its file");
    std::vector<std::byte> bytes(place.part_bytes);
    for (uint64_t part = 0; part < std::min<uint64_t>(place.num_parts, 8); ++part)
      pack.read_part(name, part, bytes, one_after_another);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Folder folder;
  const std::string_view input = fuzz::text_of(data, size);
  if (input.starts_with('\0')) {
    const std::string path = folder.write("model.h5", input.substr(1));
    fuzz::accepts([&] { read_all(PackFile(path), size - 1); });
    return 0;
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(checksum(input)));
  fuzz::accepts([&] {
    const PackAbout about = parse_pack_about(std::string(digits) + "\n" + std::string(input), "model.h5");
    fuzz::require(
        pack_about_text(parse_pack_about(pack_about_text(about), "again")) == pack_about_text(about),
        "what was read can be written and read again");
  });
  return 0;
}
