// The journal, the record of truth of a run: an append-only, checksummed log of finished requests (and of the
// progress of long ones) in `<output>/journal/`. A request counts as done when its record is durable. Written
// by rank 0's coordinator only; everything else in the output folder is made from it.
//
// Files `segment-000001.nj`, `segment-000002.nj`, ...; all integers little endian, all checksums XXH3-64:
//
//   header    magic "NEMOJRNL", u32 version, u32 size of the text, u64 checksum of the text, text: JSON
//             {"segment": number, "identity": [[name, value], ...]}
//   record    u32 magic, u32 payload size, u32 kind, u32 sample, i64 index, u64 traits, u64 durable,
//             u64 checksum of the payload (seeded with the index), u64 checksum of the record's header so far
//             (seeded with segment and offset), payload: to_bytes(Record); of kind "work": two i64, see
//             WorkDone
//
// `durable` is how many bytes of the segment had been synced when the record was written. It tells a torn
// tail from damage: a bad record that a later record knows to have been durable is damage and an error; a bad
// record at the end that nobody vouches for is what a crash leaves, and is dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lib/output/files.h"
#include "lib/output/journal_index.h"
#include "lib/request/request.h"

namespace nemo {

/// What a journal belongs to: named items (job, model, tokenizer, input, guarantee, ...) in a fixed order,
/// each with a short value, usually a fingerprint. A run may add to a journal only if every item is equal.
using Identity = std::vector<std::pair<std::string, std::string>>;

/// Whether an existing journal is thrown away (`--fresh`) or continued.
enum class Fresh { kNo, kYes };

struct JournalOptions {
  int64_t segment_bytes = int64_t{256}
                          << 20;  ///< a segment that has reached this size is followed by a new one
};

/// Exclusive use of a journal folder, by flock on its file `lock`; released by the destructor and by death.
class FolderLock {
 public:
  /// Makes the folder if needed. Throws Error at once, naming the holder, if another run has the lock.
  static FolderLock acquire(const std::string& folder);
  const std::string& folder() const { return folder_; }

 private:
  FolderLock(std::string folder, FileDescriptor file) : folder_(std::move(folder)), file_(std::move(file)) {}
  std::string folder_;
  FileDescriptor file_;
};

/// Reads single records by request index. Holds at most 16 open files.
class JournalReader {
 public:
  /// Scans the journal in `folder` without changing it and without a lock (a torn tail is passed over).
  /// Throws Error for a folder without a journal and for a damaged one.
  static JournalReader open(const std::string& folder);
  /// Reads what `index` knows; `index` is borrowed and must outlive the reader.
  JournalReader(std::string folder, const JournalIndex& index) : folder_(std::move(folder)), index_(&index) {}

  const JournalIndex& index() const { return *index_; }
  /// Empty for a reader over a borrowed index.
  const Identity& identity() const { return identity_; }

  /// Checks the checksums again. Throws Error if `index` is not done or its record has been damaged.
  Record read(int64_t index);
  std::optional<SampleProgress> read_progress(int64_t index, int64_t sample);

 private:
  Record read_at_location(const JournalLocation& location, int64_t index);
  const FileDescriptor& segment_file(int64_t segment);

  std::string folder_;
  std::unique_ptr<JournalIndex> owned_index_;
  const JournalIndex* index_;
  Identity identity_;
  std::vector<std::pair<int64_t, FileDescriptor>> files_;  // (segment, file), the latest used last
};

/// Appends to the journal of one output folder and holds its lock. Not for use by several threads at once.
class JournalWriter {
 public:
  /// Continues the journal in `folder`, or starts one if there is none or `fresh` says so. Throws Error if
  /// another run holds the lock, if the journal has another identity (naming what differs), if it is damaged
  /// (naming file and offset), or if the folder cannot be written.
  static JournalWriter open(const std::string& folder, Identity identity, Fresh fresh,
                            JournalOptions options = {});
  /// The same, for a lock that is held already.
  static JournalWriter open(FolderLock lock, Identity identity, Fresh fresh, JournalOptions options = {});

  JournalWriter(JournalWriter&&) = default;

  /// Takes a record into the buffer; it is done after the next commit(). Commits by itself when the buffer is
  /// large or the segment is full. Throws Error; a record of an index that is done or buffered already breaks
  /// an invariant.
  void append(const Record& record);
  void append(const SampleProgress& progress);
  void append(const WorkDone& work);

  /// Writes the buffer and syncs it: afterwards everything appended is durable. One call for many records is
  /// the point of it; call it at least once a second so that no more work than that is at risk. On a full
  /// disk it throws Error, the file is cut back to the last commit, and the buffer is kept for another try.
  /// After a failed sync every further call throws.
  void commit();

  /// Durable records only.
  bool done(int64_t index) const { return index_->done(index); }
  const JournalIndex& index() const { return *index_; }
  /// Reads durable records; valid as long as this writer.
  JournalReader reader() const { return JournalReader(folder(), *index_); }

  const std::string& folder() const { return lock_.folder(); }
  const Identity& identity() const { return identity_; }
  /// Bytes of a torn tail that opening has dropped; 0 after an orderly end.
  int64_t dropped_bytes() const { return dropped_bytes_; }

 private:
  struct Pending {
    uint32_t kind;
    int64_t index;
    int64_t sample;
    JournalLocation location;
    RecordTraits traits;
    WorkDone work;  ///< of that kind
  };

  JournalWriter(FolderLock lock, Identity identity, JournalOptions options);
  void resume_or_start();
  void start_segment(int64_t segment);
  void append_payload(uint32_t kind, int64_t index, int64_t sample, const RecordTraits& traits,
                      const std::string& payload);
  void write_buffer();
  void publish_pending();

  FolderLock lock_;
  Identity identity_;
  JournalOptions options_;
  std::unique_ptr<JournalIndex> index_;  // behind a pointer: readers keep its address when the writer moves
  FileDescriptor file_;
  std::string path_;
  int64_t segment_ = 0;
  int64_t header_bytes_ = 0;   // of the current segment
  int64_t durable_bytes_ = 0;  // of the current segment
  int64_t dropped_bytes_ = 0;
  bool failed_ = false;
  std::string buffer_;
  std::vector<Pending> pending_;
  std::unordered_set<int64_t> pending_indexes_;
};

/// Removes all segments, the last first, so that a crash in between leaves a whole, shorter journal. The
/// caller holds the folder's lock.
void discard_journal(const FolderLock& lock);

/// True if `folder` holds at least one segment.
bool has_journal(const std::string& folder);

}  // namespace nemo
