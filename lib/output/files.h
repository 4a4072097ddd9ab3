// The few file operations of the output folder, with errors that name the path, the system's reason and a
// remedy. Owns descriptors; used by the journal, the results and the manifest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace nemo {

/// Owner of one descriptor; closes it. Errors of close are not seen here: whoever needs the data safe syncs
/// first.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Throws Error with `path`, what was tried, the text of `error_number` and what the user can do about it.
[[noreturn]] void throw_file_error(std::string_view path, std::string_view action, int error_number);

/// open(2) with O_CLOEXEC and mode 0666; throws Error.
FileDescriptor open_file(const std::string& path, int flags);
/// Writes everything, also after short writes and interrupts; throws Error.
void write_all(const FileDescriptor& file, std::string_view bytes, const std::string& path);
/// Reads up to `size` bytes at `offset` into `data`; returns how many there were before the end of the file.
int64_t read_at(const FileDescriptor& file, int64_t offset, char* data, int64_t size,
                const std::string& path);
int64_t file_size(const FileDescriptor& file, const std::string& path);
/// fdatasync; throws Error. After an error the state of the file on disk is unknown and a second try proves
/// nothing.
void sync_file(const FileDescriptor& file, const std::string& path);
/// Makes created, renamed and removed names of `folder` durable.
void sync_folder(const std::string& folder);
/// Makes `folder` and its parents; throws Error if something else is in the way.
void create_folders(const std::string& folder);
/// True if something of this name is there; throws Error if that cannot be known.
bool path_exists(const std::string& path);
/// Removes the file if it is there; throws Error.
void remove_file(const std::string& path);

/// A file that appears under its name only when whole: written as `<path>.partial`, synced, renamed. Without
/// `publish()` the partial file is removed again.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  /// Buffered; throws Error as soon as the disk does.
  void write(std::string_view bytes);
  /// Writes what is buffered, syncs, renames, syncs the folder. Call once, last.
  void publish();

  /// The name of the unfinished file that belongs to `path`.
  static std::string partial_path(const std::string& path) { return path + ".partial"; }
  /// Syncs the partial file of `path`, which somebody else has written and closed, and renames it into place.
  static void publish_partial(const std::string& path);

 private:
  void flush();

  std::string path_;
  FileDescriptor file_;
  std::string buffer_;
};

}  // namespace nemo
