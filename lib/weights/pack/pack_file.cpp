#include "lib/weights/pack/pack_file.h"

#include <hdf5.h>

#include <algorithm>
#include <array>

#include "kernels/error.h"
#include "lib/output/hdf5_file.h"

namespace nemo {
namespace {

constexpr uint64_t kMaxAboutBytes = 1ULL << 30;  // a tokenizer.json may have 512 MiB
constexpr const char* kDamaged = "the file is damaged; pack the checkpoint again";

Hdf5Handle open_for_reading(const std::string& path) {
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_file_locking(access.get(), false, true);  // packs lie on file systems without locks, too
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose};
}

/// Bytes in one piece of this very file; others' offsets mean nothing here.
bool is_plain_bytes(hid_t dataset) {
  const Hdf5Handle creation(H5Dget_create_plist(dataset), H5Pclose);
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
  return H5Pget_layout(creation.get()) == H5D_CONTIGUOUS && H5Pget_external_count(creation.get()) == 0 &&
         H5Tget_class(type.get()) == H5T_INTEGER && H5Tget_size(type.get()) == 1;
}

PackFile::Place find_dataset(const Hdf5Handle& hdf5, const FileReader& file, const std::string& object) {
  const std::string where = file.path() + ": " + object;
  const Hdf5Handle dataset(H5Dopen2(hdf5.get(), object.c_str(), H5P_DEFAULT), H5Dclose);
  if (dataset.get() < 0) throw Error(where, "is missing", "is this a pack, and whole?");
  if (!is_plain_bytes(dataset.get())) throw Error(where, "is not bytes in one piece", kDamaged);
  const Hdf5Handle space(H5Dget_space(dataset.get()), H5Sclose);
  std::array<hsize_t, 2> size{};
  if (H5Sget_simple_extent_ndims(space.get()) != 2 ||
      H5Sget_simple_extent_dims(space.get(), size.data(), nullptr) != 2)
    throw Error(where, "is no matrix of bytes", kDamaged);
  const haddr_t begin = H5Dget_offset(dataset.get());
  const bool is_within = begin != HADDR_UNDEF && begin <= file.size() && size[0] > 0 && size[1] > 0 &&
                         size[1] <= (file.size() - begin) / size[0];
  if (!is_within) throw Error(where, "is empty or reaches beyond the end of the file", kDamaged);
  return {begin, size[0], size[1]};
}

PackAbout read_about(const Hdf5Handle& hdf5, const FileReader& file) {
  if (hdf5.get() < 0) throw Error(file.path(), "is no HDF5 file that can be read", kDamaged);
  const PackFile::Place place = find_dataset(hdf5, file, "/about");
  if (place.num_parts != 1 || place.part_bytes > kMaxAboutBytes)
    throw Error(file.path() + ": /about", "has a shape that no pack has", kDamaged);
  std::string text(place.part_bytes, '\0');
  file.read(place.begin_byte, std::as_writable_bytes(std::span(text)), "/about");
  return parse_pack_about(text, file.path());
}

}  // namespace

PackAbout read_pack_about(const std::string& path) {
  const Hdf5Quiet quiet;
  return read_about(open_for_reading(path), FileReader(path));
}

PackFile::PackFile(const std::string& path, Readers readers) : file_(path, readers) {
  const Hdf5Quiet quiet;
  const Hdf5Handle hdf5 = open_for_reading(path);
  about_ = read_about(hdf5, file_);
  for (const auto& [name, tensor] : about_.tensors) {
    const Place place = find_dataset(hdf5, file_, "/tensors/" + name);
    if (place.num_parts != tensor.checksums.size() || place.num_parts != tensor.scales.size())
      throw Error(path + ": tensor " + name, "has another number of parts than of checksums or scales",
                  kDamaged);
    places_.emplace(name, place);
  }
}

void PackFile::read_part(std::string_view tensor, uint64_t part, std::span<std::byte> out,
                         const RunPieces& run) const {
  const Place& there = place(tensor);
  NEMO_CHECK(part < there.num_parts && out.size() == there.part_bytes, std::string(tensor));
  const std::string what = "tensor " + std::string(tensor);
  std::vector<uint64_t> checksums((out.size() + kPieceBytes - 1) / kPieceBytes);
  run(static_cast<int64_t>(checksums.size()), [&](int64_t i) {
    const size_t begin = static_cast<size_t>(i) * kPieceBytes;
    const auto piece = out.subspan(begin, std::min(kPieceBytes, out.size() - begin));
    file_.read(there.begin_byte + part * there.part_bytes + begin, piece, what);
    checksums[static_cast<size_t>(i)] = piece_checksum(piece);
  });
  if (part_checksum(tensor, checksums) == about_.tensors.find(tensor)->second.checksums[part]) return;
  throw Error(path() + ": " + what + (there.num_parts > 1 ? ", expert " + std::to_string(part) : ""),
              "does not have the bytes that were written", kDamaged);
}

}  // namespace nemo
