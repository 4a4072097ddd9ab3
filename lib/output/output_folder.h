// The output folder of a job: made, checked and locked once, by rank 0, before anything else is computed.
// Knows the names of what lies in it.
#pragma once

#include <optional>
#include <string>

#include "lib/output/journal.h"

namespace nemo {

/// Owns the lock until open_journal() hands it to the writer.
class OutputFolder {
 public:
  /// Makes the folder, checks that files can be made in it, takes the lock, removes unfinished files of an
  /// earlier run; with Fresh::kYes also removes manifest, results and journal. Throws Error with the path and
  /// the remedy: not a folder, not writable, in use by another run, or (without `fresh`) holding results
  /// whose journal is gone.
  static OutputFolder open(const std::string& path, Fresh fresh);

  /// Continues or starts the journal; see JournalWriter::open. Call once.
  JournalWriter open_journal(Identity identity, JournalOptions options = {});

  const std::string& path() const { return path_; }
  std::string journal_path() const { return path_ + "/journal"; }
  std::string jsonl_path() const { return path_ + "/results.jsonl"; }
  std::string hdf5_path() const { return path_ + "/results.h5"; }
  std::string manifest_path() const { return path_ + "/manifest.json"; }

 private:
  OutputFolder(std::string path, FolderLock lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  void discard() const;

  std::string path_;
  std::optional<FolderLock> lock_;
};

}  // namespace nemo
