// The text of a pack's /about.
#include <algorithm>
#include <cstdio>

#include "kernels/error.h"
#include "lib/config/json_text.h"
#include "lib/output/checksum.h"
#include "lib/weights/pack/pack_file.h"

namespace nemo {
namespace {

using nlohmann::json;

constexpr std::string_view kSchema = "nemo-dist pack";
constexpr int64_t kVersion = 1;
constexpr size_t kDigits = 16;
constexpr const char* kDamaged = "the file is damaged; pack the checkpoint again";

std::string checksum_text(std::string_view text) {
  char digits[kDigits + 1];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(checksum(text)));
  return digits;
}

// The library would convert a fraction, and one beyond the type is undefined.
uint64_t read_checksum(const json& value) {
  if (!value.is_number_unsigned())
    throw Error("/about", "has a checksum that is no number of 64 bits", kDamaged);
  return value.get<uint64_t>();
}

PackAbout read_members(const json& document) {
  PackAbout about;
  document.at("dtype").get_to(about.dtype);
  document.at("layout").get_to(about.layout);
  document.at("checkpoint").get_to(about.checkpoint);
  document.at("tokenizer").get_to(about.tokenizer);
  document.at("files").get_to(about.files);
  for (const auto& [name, entry] : document.at("tensors").items()) {
    PackedTensor& tensor = about.tensors[name];
    entry.at("form").get_to(tensor.form);
    for (const json& value : entry.at("checksums").get_ref<const json::array_t&>())
      tensor.checksums.push_back(read_checksum(value));
    entry.at("scales").get_to(tensor.scales);
  }
  return about;
}

}  // namespace

std::string pack_about_text(const PackAbout& about) {
  json tensors = json::object();
  for (const auto& [name, tensor] : about.tensors)
    tensors[name] = {{"form", tensor.form}, {"checksums", tensor.checksums}, {"scales", tensor.scales}};
  const json document = {{"schema", kSchema},
                         {"version", kVersion},
                         {"dtype", about.dtype},
                         {"layout", about.layout},
                         {"checkpoint", about.checkpoint},
                         {"tokenizer", about.tokenizer},
                         {"files", about.files},
                         {"tensors", tensors}};
  const std::string text = document.dump();
  return checksum_text(text) + "\n" + text;
}

PackAbout parse_pack_about(std::string_view text, const std::string& where) {
  if (text.size() <= kDigits || checksum_text(text.substr(kDigits + 1)) != text.substr(0, kDigits))
    throw Error(where + ": /about", "does not have the bytes that were written", kDamaged);
  const json document = parse_json(text.substr(kDigits + 1), where + ": /about");
  try {
    if (document.at("schema") != kSchema) throw Error(where, "is an HDF5 file, but not a pack", "");
    if (document.at("version") != kVersion)
      throw Error(where, "is a pack of version " + json_excerpt(document["version"]) + ", not 1",
                  "pack the checkpoint again with this nemo-dist");
    return read_members(document);
  } catch (const json::exception& error) {
    throw Error(where + ": /about", error.what(), kDamaged);
  }
}

uint64_t piece_checksum(std::span<const std::byte> piece) {
  return checksum({reinterpret_cast<const char*>(piece.data()), piece.size()});
}

uint64_t part_checksum(std::string_view name, std::span<const uint64_t> piece_checksums) {
  const auto bytes = std::as_bytes(piece_checksums);
  return checksum({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, checksum(name));
}

uint64_t part_checksum(std::string_view name, std::span<const std::byte> bytes) {
  std::vector<uint64_t> pieces;
  for (size_t begin = 0; begin < bytes.size(); begin += kPieceBytes)
    pieces.push_back(piece_checksum(bytes.subspan(begin, std::min(kPieceBytes, bytes.size() - begin))));
  return part_checksum(name, pieces);
}

}  // namespace nemo
