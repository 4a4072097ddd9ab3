#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "kernels/error.h"
#include "lib/output/checksum.h"
#include "lib/output/journal.h"
#include "lib/output/journal_format.h"
#include "lib/output/journal_scan.h"
#include "lib/output/json_line.h"
#include "lib/request/serialize.h"

namespace nemo {
namespace {

namespace format = journal_format;

// Callers commit by time; this bounds the memory between two commits.
constexpr size_t kMaxBufferBytes = size_t{16} << 20;

// The line of `value` in which it differs first from `other`, so that a long value does not drown the
// difference.
std::string excerpt(const std::string& value, const std::string& other) {
  constexpr size_t kMaxShown = 120;
  const size_t at = static_cast<size_t>(
      std::mismatch(value.begin(), value.end(), other.begin(), other.end()).first - value.begin());
  const size_t line = at == 0 ? 0 : value.rfind('\n', at - 1) + 1;  // npos + 1 is 0: no line before
  const size_t begin = std::max(line, at > kMaxShown / 2 ? at - kMaxShown / 2 : 0);
  const std::string shown = value.substr(begin, std::min(value.find('\n', at) - begin, kMaxShown));
  return '"' + shown + '"';
}

const std::string* find_item(const Identity& identity, const std::string& name) {
  for (const auto& [item_name, value] : identity) {
    if (item_name == name) return &value;
  }
  return nullptr;
}

std::string differences(const Identity& theirs, const Identity& ours) {
  std::string text;
  const auto add = [&text](const std::string& name, const std::string& before, const std::string& now) {
    text += (text.empty() ? "" : "; ") + name + " was " + before + " and is now " + now;
  };
  for (const auto& [name, value] : theirs) {
    const std::string* now = find_item(ours, name);
    if (now == nullptr) add(name, excerpt(value, ""), "absent");
    if (now != nullptr && *now != value) add(name, excerpt(value, *now), excerpt(*now, value));
  }
  for (const auto& [name, value] : ours) {
    if (find_item(theirs, name) == nullptr) add(name, "absent", excerpt(value, ""));
  }
  return text.empty() ? "its items come in another order" : text;
}

}  // namespace

JournalWriter::JournalWriter(FolderLock lock, Identity identity, JournalOptions options)
    : lock_(std::move(lock)),
      identity_(std::move(identity)),
      options_(options),
      index_(std::make_unique<JournalIndex>()) {
  // As it will be read back: the header is JSON, and a path in an identity need not be UTF-8.
  for (auto& [name, value] : identity_) {
    name = to_valid_utf8(name);
    value = to_valid_utf8(value);
  }
}

JournalWriter JournalWriter::open(const std::string& folder, Identity identity, Fresh fresh,
                                  JournalOptions options) {
  return open(FolderLock::acquire(folder), std::move(identity), fresh, options);
}

JournalWriter JournalWriter::open(FolderLock lock, Identity identity, Fresh fresh, JournalOptions options) {
  if (fresh == Fresh::kYes) discard_journal(lock);
  JournalWriter writer(std::move(lock), std::move(identity), options);
  writer.resume_or_start();
  return writer;
}

void JournalWriter::resume_or_start() {
  JournalScan scan = scan_journal(folder());
  const bool belongs_to_someone = scan.last_segment > 1 || scan.last_bytes > 0;
  if (belongs_to_someone && scan.identity != identity_) {
    throw Error(folder(), "the journal belongs to another job: " + differences(scan.identity, identity_),
                "choose another output.path, or discard the journal with --fresh");
  }
  *index_ = std::move(scan.index);
  dropped_bytes_ = scan.dropped_bytes;
  if (scan.last_bytes == 0) {  // no segment yet, or a crash while its header was written
    const int64_t segment = std::max<int64_t>(scan.last_segment, 1);
    remove_file(format::segment_path(folder(), segment));
    start_segment(segment);
    return;
  }
  segment_ = scan.last_segment;
  path_ = format::segment_path(folder(), segment_);
  file_ = open_file(path_, O_WRONLY | O_APPEND);
  if (::ftruncate(file_.get(), scan.last_bytes) != 0)
    throw_file_error(path_, "cannot cut off the torn end", errno);
  sync_file(file_, path_);  // what a killed run had written without a sync counts as durable from here on
  durable_bytes_ = scan.last_bytes;
  header_bytes_ = static_cast<int64_t>(format::encode_segment_header(segment_, identity_).size());
}

void JournalWriter::start_segment(int64_t segment) {
  const std::string path = format::segment_path(folder(), segment);
  const std::string header = format::encode_segment_header(segment, identity_);
  FileDescriptor file = open_file(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL);
  try {
    write_all(file, header, path);
    sync_file(file, path);
    sync_folder(folder());
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
  file_ = std::move(file);
  path_ = path;
  segment_ = segment;
  header_bytes_ = durable_bytes_ = static_cast<int64_t>(header.size());
}

void JournalWriter::append(const Record& record) {
  NEMO_CHECK(!done(record.index) && !pending_indexes_.contains(record.index),
             "request " + std::to_string(record.index) + " was finished twice");
  append_payload(format::kFinished, record.index, 0, traits_of(record), to_bytes(record));
  pending_indexes_.insert(record.index);
}

void JournalWriter::append(const SampleProgress& progress) {
  NEMO_CHECK(progress.sample >= 0 && progress.sample <= std::numeric_limits<uint32_t>::max(),
             "sample " + std::to_string(progress.sample));
  Record record;  // the same bytes as a finished one, so that there is one form to read
  record.index = progress.index;
  record.outputs.push_back(progress.output);
  append_payload(format::kProgress, progress.index, progress.sample, traits_of(record), to_bytes(record));
}

void JournalWriter::append(const WorkDone& work) {
  append_payload(format::kWork, 0, 0, {}, format::encode_work(work));
  pending_.back().work = work;
}

void JournalWriter::append_payload(uint32_t kind, int64_t index, int64_t sample, const RecordTraits& traits,
                                   const std::string& payload) {
  NEMO_CHECK(index >= 0 && index < JournalIndex::kMaxRequests, "request index " + std::to_string(index));
  if (static_cast<int64_t>(payload.size()) > format::kMaxPayloadBytes) {
    throw Error("request " + std::to_string(index),
                "its result of " + std::to_string(payload.size()) + " bytes is too large for the journal",
                "ask for fewer tokens, samples or logprobs in one request");
  }
  if (failed_) throw Error(path_, "an earlier write has failed", "start the same job again: it resumes");
  // Commit before taking the record in: if this throws, the record has not been taken.
  if (buffer_.size() + payload.size() > kMaxBufferBytes) commit();
  const int64_t segment_bytes = durable_bytes_ + static_cast<int64_t>(buffer_.size());
  if (segment_bytes >= options_.segment_bytes && segment_bytes > header_bytes_) {
    commit();
    start_segment(segment_ + 1);
  }
  const JournalLocation location{segment_, durable_bytes_ + static_cast<int64_t>(buffer_.size())};
  const format::RecordHeader header{.payload_bytes = static_cast<uint32_t>(payload.size()),
                                    .kind = kind,
                                    .sample = static_cast<uint32_t>(sample),
                                    .index = index,
                                    .traits = traits,
                                    .durable = durable_bytes_,
                                    .payload_checksum = checksum(payload, static_cast<uint64_t>(index))};
  buffer_ += format::encode_record_header(header, location);
  buffer_ += payload;
  pending_.push_back({kind, index, sample, location, traits, {}});
}

void JournalWriter::commit() {
  if (failed_) throw Error(path_, "an earlier write has failed", "start the same job again: it resumes");
  if (buffer_.empty()) return;
  write_buffer();
  publish_pending();
}

void JournalWriter::write_buffer() {
  try {
    write_all(file_, buffer_, path_);
  } catch (const Error&) {
    failed_ = ::ftruncate(file_.get(), durable_bytes_) != 0;
    throw;
  }
  try {
    sync_file(file_, path_);
  } catch (const Error&) {
    failed_ = true;  // the kernel may have dropped the pages: a second sync would succeed and mean nothing
    throw;
  }
  durable_bytes_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
}

void JournalWriter::publish_pending() {
  for (const Pending& pending : pending_) {
    if (pending.kind == format::kWork) {
      index_->set_work(pending.work);
    } else if (pending.kind == format::kProgress) {
      index_->insert_progress(pending.index, pending.sample, pending.location);
    } else {
      index_->insert(pending.index, pending.location, pending.traits);
    }
  }
  pending_.clear();
  pending_indexes_.clear();
}

void discard_journal(const FolderLock& lock) {
  std::vector<int64_t> segments = list_segments(lock.folder());
  std::reverse(segments.begin(), segments.end());
  for (const int64_t segment : segments) remove_file(format::segment_path(lock.folder(), segment));
  if (!segments.empty()) sync_folder(lock.folder());
}

bool has_journal(const std::string& folder) {
  return !list_segments(folder).empty();
}

}  // namespace nemo
