#include "lib/output/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "kernels/error.h"

namespace nemo {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

std::string_view remedy_for(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "free some space or raise the quota, then start the same job again: it resumes";
    case EFBIG:
      return "raise the limit on the size of files (ulimit -f), then start the same job again: it resumes";
    case EACCES:
    case EPERM:
    case EROFS:
      return "choose an output.path that this user may write";
    case EMFILE:
    case ENFILE:
      return "raise the limit on open files (ulimit -n)";
    case ENOENT:
    case ENOTDIR:
      return "check the path";
    case EIO:
      return "the disk or its connection fails: see the system's log, or choose another output.path";
    default:
      return "";
  }
}

std::string parent_folder(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

void throw_file_error(std::string_view path, std::string_view action, int error_number) {
  throw Error(path, std::string(action) + ": " + std::generic_category().message(error_number),
              remedy_for(error_number));
}

FileDescriptor open_file(const std::string& path, int flags) {
  while (true) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (fd >= 0) return FileDescriptor(fd);
    if (errno != EINTR) throw_file_error(path, "cannot open", errno);
  }
}

void write_all(const FileDescriptor& file, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_file_error(path, "cannot write", errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

int64_t read_at(const FileDescriptor& file, int64_t offset, char* data, int64_t size,
                const std::string& path) {
  int64_t done = 0;
  while (done < size) {
    const ssize_t got = ::pread(file.get(), data + done, static_cast<size_t>(size - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_file_error(path, "cannot read", errno);
    if (got == 0) break;
    done += got;
  }
  return done;
}

int64_t file_size(const FileDescriptor& file, const std::string& path) {
  struct stat info;
  if (::fstat(file.get(), &info) != 0) throw_file_error(path, "cannot read the size", errno);
  return info.st_size;
}

void sync_file(const FileDescriptor& file, const std::string& path) {
  if (::fdatasync(file.get()) != 0) throw_file_error(path, "cannot make it durable", errno);
}

void sync_folder(const std::string& folder) {
  const FileDescriptor file = open_file(folder, O_RDONLY | O_DIRECTORY);
  // Some network file systems cannot sync a folder; there the names are durable when the server has answered.
  if (::fsync(file.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    throw_file_error(folder, "cannot make it durable", errno);
  }
}

void create_folders(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_file_error(folder, "cannot make the folder", error.value());
  if (!std::filesystem::is_directory(folder, error))
    throw_file_error(folder, "cannot make the folder", ENOTDIR);
}

bool path_exists(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0) return true;
  if (errno != ENOENT && errno != ENOTDIR) throw_file_error(path, "cannot look at it", errno);
  return false;
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw_file_error(path, "cannot remove", errno);
}

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), file_(open_file(partial_path(path_), O_WRONLY | O_CREAT | O_TRUNC)) {}

AtomicFile::~AtomicFile() {
  if (file_.is_open()) ::unlink(partial_path(path_).c_str());
}

void AtomicFile::write(std::string_view bytes) {
  buffer_ += bytes;
  if (buffer_.size() >= kBufferBytes) flush();
}

void AtomicFile::flush() {
  write_all(file_, buffer_, partial_path(path_));
  buffer_.clear();
}

void AtomicFile::publish() {
  flush();
  publish_partial(path_);
  file_ = FileDescriptor();
}

void AtomicFile::publish_partial(const std::string& path) {
  const std::string partial = partial_path(path);
  {
    const FileDescriptor file = open_file(partial, O_RDONLY);
    if (::fsync(file.get()) != 0) throw_file_error(partial, "cannot make it durable", errno);
  }
  if (::rename(partial.c_str(), path.c_str()) != 0) {
    throw_file_error(partial, "cannot rename to " + path, errno);
  }
  sync_folder(parent_folder(path));
}

}  // namespace nemo
