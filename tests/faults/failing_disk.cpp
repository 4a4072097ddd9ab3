// A disk that fails, for tests: preloaded into a program, it makes calls on files under one folder fail as a
// real disk would.
//   NEMO_FAULT_FOLDER  only files under this folder
//   NEMO_FAULT_CALL    write | sync | create
//   NEMO_FAULT_ERRNO   the number of the error
//   NEMO_FAULT_BYTES   how many bytes may be written there before it begins (write, sync)
#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // RTLD_NEXT
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

struct Fault {
  std::string folder, call;
  int error = EIO;
  long long bytes = 0;
};

const Fault& fault() {
  static const Fault fault = [] {
    const auto text = [](const char* name) {
      const char* value = std::getenv(name);
      return std::string(value == nullptr ? "" : value);
    };
    return Fault{text("NEMO_FAULT_FOLDER"), text("NEMO_FAULT_CALL"),
                 std::atoi(text("NEMO_FAULT_ERRNO").c_str()), std::atoll(text("NEMO_FAULT_BYTES").c_str())};
  }();
  return fault;
}

std::atomic<long long> written{0};

bool is_under(const char* path) {
  return !fault().folder.empty() && std::strncmp(path, fault().folder.c_str(), fault().folder.size()) == 0;
}

bool is_under(int fd) {
  if (fault().folder.empty()) return false;
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof path - 1);
  if (size <= 0) return false;
  path[size] = '\0';
  return is_under(path);
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

/// How much of a write of `size` bytes goes through; -1 = it fails. Like a full disk, which takes what still
/// fits.
ssize_t allowed(int fd, size_t size) {
  if (!is_under(fd)) return static_cast<ssize_t>(size);
  const long long before = written.fetch_add(static_cast<long long>(size));
  if (fault().call != "write" || before + static_cast<long long>(size) <= fault().bytes)
    return static_cast<ssize_t>(size);
  written -= static_cast<long long>(size);
  const long long room = fault().bytes - before;
  if (room <= 0) {
    errno = fault().error;
    return -1;
  }
  written += room;
  return static_cast<ssize_t>(room);
}

bool sync_fails(int fd) {
  if (fault().call != "sync" || written < fault().bytes || !is_under(fd)) return false;
  errno = fault().error;
  return true;
}

bool create_fails(const char* path, int flags) {
  if (fault().call != "create" || (flags & O_ACCMODE) == O_RDONLY || !is_under(path)) return false;
  errno = fault().error;
  return true;
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t size) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  const ssize_t room = allowed(fd, size);
  return room < 0 ? -1 : real(fd, data, static_cast<size_t>(room));
}

ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64");
  const ssize_t room = allowed(fd, size);
  return room < 0 ? -1 : real(fd, data, static_cast<size_t>(room), offset);
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  return pwrite64(fd, data, size, offset);
}

int fsync(int fd) {
  static const auto real = next<int (*)(int)>("fsync");
  return sync_fails(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
  static const auto real = next<int (*)(int)>("fdatasync");
  return sync_fails(fd) ? -1 : real(fd);
}

int open64(const char* path, int flags, ...) {
  static const auto real = next<int (*)(const char*, int, ...)>("open64");
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return create_fails(path, flags) ? -1 : real(path, flags, mode);
}

int open(const char* path, int flags, ...) {
  static const auto real = next<int (*)(const char*, int, ...)>("open");
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return create_fails(path, flags) ? -1 : real(path, flags, mode);
}
}
