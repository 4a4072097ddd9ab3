#include "lib/output/output_folder.h"

#include <fcntl.h>

#include "kernels/error.h"
#include "lib/output/files.h"

namespace nemo {
namespace {

// Making the folder may succeed where making files in it does not; better to know before hours of work.
void check_writable(const std::string& folder) {
  const std::string probe = AtomicFile::partial_path(folder + "/probe");
  try {
    const FileDescriptor file = open_file(probe, O_WRONLY | O_CREAT | O_TRUNC);
    write_all(file, "x", probe);
  } catch (const Error& error) {
    remove_file(probe);
    throw Error(folder, std::string("the output folder cannot be written: ") + error.what(), "");
  }
  remove_file(probe);
}

}  // namespace

OutputFolder OutputFolder::open(const std::string& path, Fresh fresh) {
  create_folders(path);
  check_writable(path);
  OutputFolder folder(path, FolderLock::acquire(path + "/journal"));
  for (const std::string& file : {folder.jsonl_path(), folder.hdf5_path(), folder.manifest_path()}) {
    remove_file(AtomicFile::partial_path(file));
  }
  if (fresh == Fresh::kYes) {
    folder.discard();
  } else if (!has_journal(folder.journal_path()) &&
             (path_exists(folder.jsonl_path()) || path_exists(folder.hdf5_path()))) {
    throw Error(path, "there are results here but no journal, so it cannot be known what they belong to",
                "choose another output.path, or discard them with --fresh");
  }
  return folder;
}

// The results go first: results without a journal are refused by open(), a journal without results is only
// resumed.
void OutputFolder::discard() const {
  remove_file(jsonl_path());
  remove_file(hdf5_path());
  remove_file(manifest_path());
  sync_folder(path_);
  discard_journal(*lock_);
}

JournalWriter OutputFolder::open_journal(Identity identity, JournalOptions options) {
  NEMO_CHECK(lock_.has_value(), "open_journal was called twice");
  FolderLock lock = std::move(*lock_);
  lock_.reset();
  return JournalWriter::open(std::move(lock), std::move(identity), Fresh::kNo, options);
}

}  // namespace nemo
