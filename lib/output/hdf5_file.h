// A thin, owning layer over the HDF5 C API for writing: one file, columns that grow, attributes. Failures
// become Error; HDF5's own messages stay off stderr. Same calls, same bytes: no times are recorded.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nemo {

/// Owner of one HDF5 identifier.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close close_id) : id_(id), close_(close_id) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept;
  ~Hdf5Handle();

  hid_t get() const { return id_; }
  /// Returns what HDF5 returned; negative is failure.
  herr_t close();

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

/// Keeps HDF5 from printing while it lives; this thread only.
class Hdf5Quiet {
 public:
  Hdf5Quiet();
  Hdf5Quiet(const Hdf5Quiet&) = delete;
  Hdf5Quiet& operator=(const Hdf5Quiet&) = delete;
  ~Hdf5Quiet();

 private:
  H5E_auto2_t print_ = nullptr;
  void* data_ = nullptr;
};

/// How a file keeps its own structures: as every version of HDF5 reads them, or with checksums and large data
/// sets on pages of their own, for HDF5 1.10 and later.
enum class Hdf5Structures : uint8_t { kOldest, kChecksummed };

/// A file being written. Groups are made as the names of columns ask for them.
class Hdf5File {
 public:
  /// Replaces a file that is there. Throws Error.
  explicit Hdf5File(std::string path, Hdf5Structures structures = Hdf5Structures::kOldest);

  const std::string& path() const { return path_; }
  hid_t id() const { return file_.get(); }

  /// UTF-8, fixed length, on the object `object` ("/" for the file). Throw Error.
  void set_attribute(const std::string& object, const std::string& name, const std::string& value);
  void set_attribute(const std::string& object, const std::string& name, int64_t value);
  void set_attribute(const std::string& object, const std::string& name,
                     const std::vector<std::string>& values);

  /// Everything written is with the system afterwards; columns must be gone. Throws Error.
  void close();
  /// Throws Error if `result`, as HDF5 gave it, is a failure; returns it otherwise.
  template <class Result>
  Result check(Result result, const char* action) const {
    if (result < 0) fail(action);
    return result;
  }

 private:
  [[noreturn]] void fail(const char* action) const;
  void write_strings(const std::string& object, const std::string& name,
                     const std::vector<std::string>& values, hid_t space);

  std::string path_;
  Hdf5Handle file_;
};

/// A data set [rows] or [rows, width] that grows by rows, written a whole chunk at a time: a chunk is
/// compressed once.
class Hdf5Column {
 public:
  /// `type` is an HDF5 type of fixed size that is alike in file and memory; `width` 0 makes it
  /// one-dimensional. `file` must outlive the column. `chunk_bytes` is the size of the buffer.
  Hdf5Column(const Hdf5File& file, const std::string& name, hid_t type, int64_t width, int64_t chunk_bytes);

  /// Takes whole rows.
  void append(const void* rows, int64_t num_rows);
  /// Writes what is buffered. Call once, last.
  void finish();

 private:
  void write_buffer();

  const Hdf5File* file_;
  hid_t type_;
  int64_t width_;
  int64_t row_bytes_;
  int64_t chunk_rows_;
  int64_t num_written_ = 0;
  std::string buffer_;
  Hdf5Handle dataset_;
};

}  // namespace nemo
