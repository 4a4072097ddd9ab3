// The bytes of a journal segment (layout in journal.h): made by the writer, checked by the scan and the
// reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/output/journal.h"

namespace nemo::journal_format {

constexpr std::string_view kSegmentMagic = "NEMOJRNL";
constexpr std::string_view kRecordMagic = "NREC";
constexpr uint32_t kVersion = 1;
/// Magic, version, size and checksum of the text.
constexpr int64_t kSegmentPrefixBytes = 24;
constexpr int64_t kMaxIdentityBytes = int64_t{1} << 20;
constexpr int64_t kRecordHeaderBytes = 56;
/// Far above the largest record (64 samples of 32k tokens with 20 logprobs each are 0.4 GB), below what 32
/// bits count.
constexpr int64_t kMaxPayloadBytes = int64_t{1} << 30;

enum RecordKind : uint32_t { kFinished = 1, kProgress = 2, kWork = 3 };

/// The fields of a record's header, without magic and checksum of itself.
struct RecordHeader {
  uint32_t payload_bytes = 0;
  uint32_t kind = kFinished;
  uint32_t sample = 0;
  int64_t index = 0;
  RecordTraits traits;
  int64_t durable = 0;  ///< bytes of the segment that were synced when the record was written
  uint64_t payload_checksum = 0;
};

std::string segment_path(const std::string& folder, int64_t segment);
/// The number in `segment-<number>.nj`, or nothing for another name.
std::optional<int64_t> segment_number(std::string_view file_name);

/// Names and values of `identity` must be UTF-8.
std::string encode_segment_header(int64_t segment, const Identity& identity);

struct SegmentHeader {
  Identity identity;
  int64_t bytes = 0;  ///< size of the whole header: the offset of the first record
};
/// `bytes` starts at the beginning of the file and may hold more than the header. Nothing if the header is
/// torn or damaged; throws Error for a whole header of another version.
std::optional<SegmentHeader> decode_segment_header(std::string_view bytes, int64_t segment,
                                                   const std::string& path);

std::string encode_record_header(const RecordHeader& header, const JournalLocation& location);
/// Nothing if the bytes are not the header of a record that was written at just this place.
std::optional<RecordHeader> decode_record_header(std::string_view bytes, const JournalLocation& location);
/// The payload of a record of kind kWork. Decoding throws Error for bytes of another size.
std::string encode_work(const WorkDone& work);
WorkDone decode_work(std::string_view payload);

bool payload_is_whole(const RecordHeader& header, std::string_view payload);

}  // namespace nemo::journal_format
