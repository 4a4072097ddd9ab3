#include "lib/output/hdf5_file.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/error.h"
#include "lib/output/files.h"

namespace nemo {
namespace {

// After a write has failed (full disk), HDF5 1.10 cannot close the file, tries it again from its exit handler
// and crashes there: the user would see a crash in place of the reason. So it gets no exit handler; every
// file is closed by its owner. The handler is installed by the first use of HDF5, hence this runs before
// main.
[[maybe_unused]] const herr_t without_exit_handler = H5dont_atexit();

// The deepest message of HDF5's error stack says what has happened; those above only who called whom.
std::string deepest_message() {
  std::string message;
  const auto keep = [](unsigned, const H5E_error2_t* error, void* data) -> herr_t {
    if (error->desc != nullptr) *static_cast<std::string*>(data) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep, &message);
  H5Eclear2(H5E_DEFAULT);
  return message;
}

// "... errno = 28, error message = ..." in the text of a failed read or write; 0 if there is none.
int errno_in(const std::string& message) {
  constexpr const char* kKey = "errno = ";
  const size_t at = message.find(kKey);
  return at == std::string::npos ? 0 : std::atoi(message.c_str() + at + std::strlen(kKey));
}

}  // namespace

Hdf5Handle& Hdf5Handle::operator=(Hdf5Handle&& other) noexcept {
  if (this != &other) {
    close();
    id_ = std::exchange(other.id_, -1);
    close_ = other.close_;
  }
  return *this;
}

Hdf5Handle::~Hdf5Handle() {
  const Hdf5Quiet quiet;  // after a failed write HDF5 complains once more when it closes
  close();
}

herr_t Hdf5Handle::close() {
  const hid_t id = std::exchange(id_, -1);
  return id < 0 ? 0 : close_(id);
}

Hdf5Quiet::Hdf5Quiet() {
  H5Eget_auto2(H5E_DEFAULT, &print_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Quiet::~Hdf5Quiet() {
  H5Eset_auto2(H5E_DEFAULT, print_, data_);
}

Hdf5File::Hdf5File(std::string path, Hdf5Structures structures) : path_(std::move(path)) {
  const Hdf5Handle creation(check(H5Pcreate(H5P_FILE_CREATE), "cannot create"), H5Pclose);
  check(H5Pset_obj_track_times(creation.get(), false), "cannot create");
  const Hdf5Handle access(check(H5Pcreate(H5P_FILE_ACCESS), "cannot create"), H5Pclose);
  check(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), "cannot create");
  // The folder's own lock keeps others away; HDF5's fails on file systems without locks.
  check(H5Pset_file_locking(access.get(), false, true), "cannot create");
  if (structures == Hdf5Structures::kChecksummed) {
    check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), "cannot create");
    check(H5Pset_alignment(access.get(), 1 << 16, 1 << 12), "cannot create");
  }
  file_ = Hdf5Handle(
      check(H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), "cannot create"),
      H5Fclose);
}

void Hdf5File::fail(const char* action) const {
  const std::string message = deepest_message();
  if (const int number = errno_in(message); number != 0) throw_file_error(path_, action, number);
  throw Error(path_, std::string(action) + ": HDF5 says: " + message, "");
}

void Hdf5File::write_strings(const std::string& object, const std::string& name,
                             const std::vector<std::string>& values, hid_t space) {
  size_t size = 1;  // HDF5 has no strings of length 0
  for (const std::string& value : values) size = std::max(size, value.size());
  std::string bytes;
  for (std::string value : values) {
    value.resize(size, '\0');
    bytes += value;
  }
  const Hdf5Handle type(check(H5Tcopy(H5T_C_S1), "cannot write"), H5Tclose);
  check(H5Tset_size(type.get(), size), "cannot write");
  check(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), "cannot write");
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "cannot write");
  const Hdf5Handle attribute(check(H5Acreate_by_name(id(), object.c_str(), name.c_str(), type.get(), space,
                                                     H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                                   "cannot write"),
                             H5Aclose);
  check(H5Awrite(attribute.get(), type.get(), bytes.data()), "cannot write");
}

void Hdf5File::set_attribute(const std::string& object, const std::string& name, const std::string& value) {
  const Hdf5Handle space(check(H5Screate(H5S_SCALAR), "cannot write"), H5Sclose);
  write_strings(object, name, {value}, space.get());
}

void Hdf5File::set_attribute(const std::string& object, const std::string& name,
                             const std::vector<std::string>& values) {
  const hsize_t count = values.size();
  const Hdf5Handle space(check(H5Screate_simple(1, &count, nullptr), "cannot write"), H5Sclose);
  write_strings(object, name, values, space.get());
}

void Hdf5File::set_attribute(const std::string& object, const std::string& name, int64_t value) {
  const Hdf5Handle space(check(H5Screate(H5S_SCALAR), "cannot write"), H5Sclose);
  const Hdf5Handle attribute(check(H5Acreate_by_name(id(), object.c_str(), name.c_str(), H5T_STD_I64LE,
                                                     space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                                   "cannot write"),
                             H5Aclose);
  check(H5Awrite(attribute.get(), H5T_NATIVE_INT64, &value), "cannot write");
}

void Hdf5File::close() {
  check(H5Fflush(id(), H5F_SCOPE_LOCAL), "cannot write");
  check(file_.close(), "cannot write");
}

Hdf5Column::Hdf5Column(const Hdf5File& file, const std::string& name, hid_t type, int64_t width,
                       int64_t chunk_bytes)
    : file_(&file), type_(type), width_(width) {
  row_bytes_ = static_cast<int64_t>(H5Tget_size(type)) * std::max<int64_t>(width, 1);
  chunk_rows_ = std::max<int64_t>(chunk_bytes / row_bytes_, 1);
  const int rank = width > 0 ? 2 : 1;
  const hsize_t size[2] = {0, static_cast<hsize_t>(width)};
  const hsize_t max_size[2] = {H5S_UNLIMITED, static_cast<hsize_t>(width)};
  const hsize_t chunk[2] = {static_cast<hsize_t>(chunk_rows_), static_cast<hsize_t>(width)};
  const Hdf5Handle space(file.check(H5Screate_simple(rank, size, max_size), "cannot write"), H5Sclose);
  const Hdf5Handle creation(file.check(H5Pcreate(H5P_DATASET_CREATE), "cannot write"), H5Pclose);
  file.check(H5Pset_chunk(creation.get(), rank, chunk), "cannot write");
  file.check(H5Pset_shuffle(creation.get()), "cannot write");
  file.check(H5Pset_deflate(creation.get(), 4), "cannot write");
  file.check(H5Pset_obj_track_times(creation.get(), false), "cannot write");
  const Hdf5Handle links(file.check(H5Pcreate(H5P_LINK_CREATE), "cannot write"), H5Pclose);
  file.check(H5Pset_create_intermediate_group(links.get(), 1), "cannot write");
  dataset_ = Hdf5Handle(file.check(H5Dcreate2(file.id(), name.c_str(), type, space.get(), links.get(),
                                              creation.get(), H5P_DEFAULT),
                                   "cannot write"),
                        H5Dclose);
}

void Hdf5Column::append(const void* rows, int64_t num_rows) {
  const auto* bytes = static_cast<const char*>(rows);
  const int64_t chunk_bytes = chunk_rows_ * row_bytes_;
  int64_t left = num_rows * row_bytes_;
  while (left > 0) {
    const int64_t taken = std::min(left, chunk_bytes - static_cast<int64_t>(buffer_.size()));
    buffer_.append(bytes, static_cast<size_t>(taken));
    bytes += taken;
    left -= taken;
    if (static_cast<int64_t>(buffer_.size()) == chunk_bytes) write_buffer();
  }
}

void Hdf5Column::finish() {
  if (!buffer_.empty()) write_buffer();
  file_->check(dataset_.close(), "cannot write");
}

void Hdf5Column::write_buffer() {
  const int rank = width_ > 0 ? 2 : 1;
  const int64_t num_rows = static_cast<int64_t>(buffer_.size()) / row_bytes_;
  const hsize_t size[2] = {static_cast<hsize_t>(num_written_ + num_rows), static_cast<hsize_t>(width_)};
  const hsize_t begin[2] = {static_cast<hsize_t>(num_written_), 0};
  const hsize_t count[2] = {static_cast<hsize_t>(num_rows), static_cast<hsize_t>(width_)};
  file_->check(H5Dset_extent(dataset_.get(), size), "cannot write");
  const Hdf5Handle in_memory(file_->check(H5Screate_simple(rank, count, nullptr), "cannot write"), H5Sclose);
  const Hdf5Handle in_file(file_->check(H5Dget_space(dataset_.get()), "cannot write"), H5Sclose);
  file_->check(H5Sselect_hyperslab(in_file.get(), H5S_SELECT_SET, begin, nullptr, count, nullptr),
               "cannot write");
  file_->check(H5Dwrite(dataset_.get(), type_, in_memory.get(), in_file.get(), H5P_DEFAULT, buffer_.data()),
               "cannot write");
  num_written_ += num_rows;
  buffer_.clear();
}

}  // namespace nemo
