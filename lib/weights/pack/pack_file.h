// A pack: a model in one HDF5 file, its matrices in kernel layout, so that loading is reading.
//
//   /about            uint8 [n]: 16 hexadecimal digits, the checksum of the rest; a line's end; JSON:
//     schema, version, dtype, layout, checkpoint, tokenizer    see PackAbout
//     files           name -> text of the model's small files: config.json, tokenizer.json, ...
//     tensors         logical name -> {form, checksums, scales}, see PackedTensor
//   /tensors/<name>   uint8 [parts, bytes of a part], contiguous. Of routed experts a part is an expert, so
//   that a
//                     rank's block of them is one piece of the file; other tensors are one part.
//
// Written in HDF5's newer format, whose own structures carry checksums too.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/weights/file_reader.h"
#include "lib/weights/weight_source.h"

namespace nemo {

/// How a tensor lies in a pack.
struct PackedTensor {
  /// "float32" or "bfloat16": rows as they are; "packed float32", "packed bfloat16", "packed fp8", "packed
  /// nvfp4": what kernels::PackedMatrix of that format holds.
  std::string form;
  std::vector<uint64_t> checksums;  ///< of each part: part_checksum
  std::vector<float> scales;        ///< of each part of a packed matrix
};

struct PackAbout {
  std::string dtype;       ///< "bfloat16" or "float32": what unquantized matrices are kept as
  std::string layout;      ///< packed_layout() of the build that wrote it
  std::string checkpoint;  ///< fingerprint_checkpoint() of the folder it was made from
  std::string tokenizer;   ///< fingerprint_tokenizer() of that folder
  std::map<std::string, std::string> files;
  std::map<std::string, PackedTensor, std::less<>> tensors;
};

/// Text of /about, and back. `where` names the pack in errors; parsing throws Error for a wrong checksum,
/// another schema or version, and for members that are missing or of another type.
std::string pack_about_text(const PackAbout& about);
PackAbout parse_pack_about(std::string_view text, const std::string& where);

/// The checksum of one part of tensor `name`, made of those of its pieces of kPieceBytes: another tensor's
/// bytes have another one.
uint64_t part_checksum(std::string_view name, std::span<const std::byte> bytes);
uint64_t part_checksum(std::string_view name, std::span<const uint64_t> piece_checksums);
uint64_t piece_checksum(std::span<const std::byte> piece);
inline constexpr size_t kPieceBytes = size_t{4} << 20;

/// /about of a pack. Throws Error naming the file for anything that is no pack, or a damaged one.
PackAbout read_pack_about(const std::string& path);

/// A pack open for reading. Reads /about and where tensors lie at once; of tensors only the parts asked for.
class PackFile {
 public:
  /// Throws Error naming the file, and the tensor, for anything that is not a whole pack.
  explicit PackFile(const std::string& path, Readers readers = Readers::kThisOne);

  const std::string& path() const { return file_.path(); }
  const PackAbout& about() const { return about_; }

  /// Where a tensor's parts lie in the file, all of them within it.
  struct Place {
    uint64_t begin_byte = 0;
    uint64_t num_parts = 0;
    uint64_t part_bytes = 0;
  };
  /// Of a tensor that about() lists.
  const Place& place(std::string_view tensor) const { return places_.find(tensor)->second; }

  /// One part of a tensor, checked, read piece by piece by `run`. `out` has part_bytes of it. Throws Error
  /// naming tensor and file for a wrong checksum.
  void read_part(std::string_view tensor, uint64_t part, std::span<std::byte> out,
                 const RunPieces& run) const;

 private:
  FileReader file_;
  PackAbout about_;
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace nemo
