#include <fcntl.h>

#include <algorithm>

#include "kernels/error.h"
#include "lib/output/journal.h"
#include "lib/output/journal_format.h"
#include "lib/output/journal_scan.h"
#include "lib/request/serialize.h"

namespace nemo {
namespace {

namespace format = journal_format;

constexpr size_t kMaxOpenFiles = 16;

}  // namespace

JournalReader JournalReader::open(const std::string& folder) {
  JournalScan scan = scan_journal(folder);
  if (scan.last_segment == 0) throw Error(folder, "there is no journal here", "check output.path");
  auto index = std::make_unique<JournalIndex>(std::move(scan.index));
  JournalReader reader(folder, *index);
  reader.owned_index_ = std::move(index);
  reader.identity_ = std::move(scan.identity);
  return reader;
}

const FileDescriptor& JournalReader::segment_file(int64_t segment) {
  const auto found = std::find_if(files_.begin(), files_.end(),
                                  [segment](const auto& file) { return file.first == segment; });
  if (found != files_.end()) {
    std::rotate(found, found + 1, files_.end());
  } else {
    if (files_.size() == kMaxOpenFiles) files_.erase(files_.begin());
    files_.emplace_back(segment, open_file(format::segment_path(folder_, segment), O_RDONLY));
  }
  return files_.back().second;
}

Record JournalReader::read_at_location(const JournalLocation& location, int64_t index) {
  const std::string path = format::segment_path(folder_, location.segment);
  const FileDescriptor& file = segment_file(location.segment);
  std::string bytes(format::kRecordHeaderBytes, '\0');
  bytes.resize(
      static_cast<size_t>(read_at(file, location.offset, bytes.data(), format::kRecordHeaderBytes, path)));
  const auto header = format::decode_record_header(bytes, location);
  std::string payload;
  if (header) {
    payload.resize(header->payload_bytes);
    payload.resize(static_cast<size_t>(read_at(file, location.offset + format::kRecordHeaderBytes,
                                               payload.data(), header->payload_bytes, path)));
  }
  if (!header || header->index != index || !format::payload_is_whole(*header, payload)) {
    throw Error(
        path,
        "the journal has been changed at offset " + std::to_string(location.offset) + " since it was opened",
        "start the same job again: it checks the journal and says what to do");
  }
  Record record = record_from_bytes(payload);
  if (record.index != index) {
    throw Error(path,
                "the journal has the record of request " + std::to_string(record.index) +
                    " as that of request " + std::to_string(index),
                "start over with --fresh");
  }
  return record;
}

Record JournalReader::read(int64_t index) {
  const auto location = index_->find(index);
  if (!location) {
    throw Error(folder_, "request " + std::to_string(index) + " is not done",
                "start the same job again: it resumes");
  }
  return read_at_location(*location, index);
}

std::optional<SampleProgress> JournalReader::read_progress(int64_t index, int64_t sample) {
  const auto location = index_->find_progress(index, sample);
  if (!location) return std::nullopt;
  Record record = read_at_location(*location, index);
  if (record.outputs.size() != 1) {
    throw Error(folder_,
                "the journal has no progress of request " + std::to_string(index) + " where it should be",
                "start over with --fresh");
  }
  return SampleProgress{index, sample, std::move(record.outputs.front())};
}

}  // namespace nemo
