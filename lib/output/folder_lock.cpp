#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "kernels/error.h"
#include "lib/output/journal.h"

namespace nemo {
namespace {

std::string this_process() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return "process " + std::to_string(::getpid()) + " on " + host;
}

std::string holder_of(const FileDescriptor& file, const std::string& path) {
  char text[512];
  const int64_t size = read_at(file, 0, text, sizeof text, path);
  return size > 0 ? std::string(text, static_cast<size_t>(size)) : "an unknown process";
}

}  // namespace

FolderLock FolderLock::acquire(const std::string& folder) {
  create_folders(folder);
  const std::string path = folder + "/lock";
  FileDescriptor file = open_file(path, O_RDWR | O_CREAT);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      throw Error(folder, "another run is writing here: " + holder_of(file, path),
                  "wait until it ends or stop it, or choose another output.path");
    }
    throw_file_error(
        path, "cannot lock (two runs in one folder would spoil it; this file system must know flock)", errno);
  }
  // For people only; the lock is what counts. A full disk must not keep a finished job from being read.
  const std::string holder = this_process();
  if (::ftruncate(file.get(), 0) == 0) {
    [[maybe_unused]] const ssize_t written = ::pwrite(file.get(), holder.data(), holder.size(), 0);
  }
  return FolderLock(folder, std::move(file));
}

}  // namespace nemo
