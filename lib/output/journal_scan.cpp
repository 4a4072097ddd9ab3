#include "lib/output/journal_scan.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "kernels/error.h"
#include "lib/output/journal_format.h"

namespace nemo {
namespace {

namespace format = journal_format;

// Views of a file through a window that moves forward, so that a scan is a few large reads.
class WindowReader {
 public:
  explicit WindowReader(std::string path) : path_(std::move(path)), file_(open_file(path_, O_RDONLY)) {
    file_bytes_ = file_size(file_, path_);
  }

  const std::string& path() const { return path_; }
  int64_t file_bytes() const { return file_bytes_; }

  /// `size` bytes at `offset`, fewer at the end of the file; valid until the next call.
  std::string_view view(int64_t offset, int64_t size) {
    size = std::clamp<int64_t>(file_bytes_ - offset, 0, size);
    if (offset < begin_ || offset + size > begin_ + static_cast<int64_t>(window_.size())) load(offset, size);
    return std::string_view(window_).substr(static_cast<size_t>(offset - begin_), static_cast<size_t>(size));
  }

 private:
  static constexpr int64_t kWindowBytes = int64_t{4} << 20;

  void load(int64_t offset, int64_t size) {
    window_.resize(static_cast<size_t>(std::min(std::max(size, kWindowBytes), file_bytes_ - offset)));
    begin_ = offset;
    const int64_t got = read_at(file_, offset, window_.data(), static_cast<int64_t>(window_.size()), path_);
    if (got != static_cast<int64_t>(window_.size())) {
      throw Error(path_, "the file became shorter while it was read", "is another program writing here?");
    }
  }

  std::string path_;
  FileDescriptor file_;
  int64_t file_bytes_ = 0;
  int64_t begin_ = 0;
  std::string window_;
};

// Is there a record behind `bad_offset` that was written when the bytes there were durable already?
bool is_vouched_for(WindowReader& file, int64_t segment, int64_t bad_offset) {
  constexpr int64_t kStep = int64_t{1} << 20;
  for (int64_t from = bad_offset + 1; from < file.file_bytes(); from += kStep) {
    // The overlap lets a header that begins in this step end in the next.
    const std::string bytes(file.view(from, kStep + format::kRecordHeaderBytes - 1));
    for (size_t at = bytes.find(format::kRecordMagic); at != std::string::npos;
         at = bytes.find(format::kRecordMagic, at + 1)) {
      const auto header = format::decode_record_header(std::string_view(bytes).substr(at),
                                                       {segment, from + static_cast<int64_t>(at)});
      if (header && header->durable > bad_offset) return true;
    }
  }
  return false;
}

[[noreturn]] void throw_damage(const std::string& path, int64_t offset) {
  throw Error(path,
              "the journal is damaged at offset " + std::to_string(offset) +
                  ": the bytes there are not those that were written",
              "bring the file back from a copy; or keep what is before the damage and compute the rest "
              "again: truncate "
              "-s " +
                  std::to_string(offset) + " '" + path + "'; or start over with --fresh");
}

void enter(JournalIndex& index, const format::RecordHeader& header, std::string_view payload,
           const JournalLocation& location) {
  if (header.kind == format::kWork) {
    index.set_work(format::decode_work(payload));
  } else if (header.kind == format::kProgress) {
    index.insert_progress(header.index, header.sample, location);
  } else if (header.kind == format::kFinished) {
    index.insert(header.index, location, header.traits);
  } else {
    throw Error("journal",
                "the record at offset " + std::to_string(location.offset) + " of segment " +
                    std::to_string(location.segment) + " is of the unknown kind " +
                    std::to_string(header.kind),
                "use the program that wrote it, or start over with --fresh");
  }
}

// Enters the records of one segment and returns the end of its good part.
int64_t scan_records(WindowReader& file, int64_t segment, int64_t offset, JournalIndex& index) {
  while (offset < file.file_bytes()) {
    const auto header =
        format::decode_record_header(file.view(offset, format::kRecordHeaderBytes), {segment, offset});
    if (!header) return offset;
    const std::string_view payload = file.view(offset + format::kRecordHeaderBytes, header->payload_bytes);
    if (!format::payload_is_whole(*header, payload)) return offset;
    enter(index, *header, payload, {segment, offset});
    offset += format::kRecordHeaderBytes + header->payload_bytes;
  }
  return offset;
}

void scan_segment(const std::string& folder, int64_t segment, bool is_last, JournalScan& scan) {
  WindowReader file(format::segment_path(folder, segment));
  const auto header = format::decode_segment_header(
      file.view(0, format::kSegmentPrefixBytes + format::kMaxIdentityBytes), segment, file.path());
  int64_t good_bytes = 0;
  if (header) {
    if (segment == 1) scan.identity = header->identity;
    if (header->identity != scan.identity) {
      throw Error(file.path(), "this segment belongs to another journal than the first one",
                  "bring the right file back; or remove it and the segments after it: what they held is "
                  "computed again");
    }
    good_bytes = scan_records(file, segment, header->bytes, scan.index);
  }
  if (good_bytes < file.file_bytes() || good_bytes == 0) {
    if (!is_last || is_vouched_for(file, segment, good_bytes)) throw_damage(file.path(), good_bytes);
  }
  scan.last_segment = segment;
  scan.last_bytes = good_bytes;
  scan.dropped_bytes = file.file_bytes() - good_bytes;
}

}  // namespace

std::vector<int64_t> list_segments(const std::string& folder) {
  std::vector<int64_t> segments;
  if (!path_exists(folder)) return segments;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto number = format::segment_number(entry->path().filename().string());
    if (number) segments.push_back(*number);
  }
  if (error) throw_file_error(folder, "cannot list the folder", error.value());
  std::sort(segments.begin(), segments.end());
  return segments;
}

JournalScan scan_journal(const std::string& folder) {
  JournalScan scan;
  const std::vector<int64_t> segments = list_segments(folder);
  for (const int64_t segment : segments) {
    if (segment != scan.last_segment + 1) {
      throw Error(format::segment_path(folder, scan.last_segment + 1),
                  "this segment of the journal is missing",
                  "bring it back from a copy, or start over with --fresh");
    }
    scan_segment(folder, segment, segment == segments.back(), scan);
  }
  return scan;
}

}  // namespace nemo
