// A journal's first segment. If the input's first byte is 'C', the checksums of its records are put right
// first, so that the fuzzer sees behind them: they keep out accidents, not people.
#include <cstring>

#include "lib/output/checksum.h"
#include "lib/output/journal.h"
#include "lib/output/journal_format.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using namespace nemo;
namespace format = journal_format;

template <class T>
T get(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <class T>
void set(std::string& bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// The layout is that of lib/output/journal.h.
void correct_segment_header(std::string& bytes) {
  if (bytes.size() < size_t{format::kSegmentPrefixBytes}) return;
  const std::string_view text =
      std::string_view(bytes).substr(format::kSegmentPrefixBytes, get<uint32_t>(bytes, 12));
  set(bytes, 16, checksum(text, text.size()));
}

void correct_records(std::string& bytes) {
  size_t at = format::kSegmentPrefixBytes + get<uint32_t>(bytes, 12);
  while (at + format::kRecordHeaderBytes <= bytes.size()) {
    const auto payload_bytes = get<uint32_t>(bytes, at + 4);
    const std::string_view payload =
        std::string_view(bytes).substr(at + format::kRecordHeaderBytes, payload_bytes);
    set(bytes, at + 40, checksum(payload, static_cast<uint64_t>(get<int64_t>(bytes, at + 16))));
    const std::string_view covered = std::string_view(bytes).substr(at, format::kRecordHeaderBytes - 8);
    set(bytes, at + 48, checksum(covered, uint64_t{1} << 40 ^ at));
    at += format::kRecordHeaderBytes + payload_bytes;
  }
}

std::string segment_of(std::string_view input) {
  std::string bytes(input.substr(std::min<size_t>(1, input.size())));
  if (input.starts_with('C') && bytes.size() >= size_t{format::kSegmentPrefixBytes}) {
    correct_segment_header(bytes);
    correct_records(bytes);
  }
  return bytes;
}

// What a run does that starts again: reads everything, then goes on behind it.
void resume(const std::string& folder) {
  Identity identity;
  {
    JournalReader reader = JournalReader::open(folder);
    for (int64_t index = 0; index < 64; ++index) {
      if (reader.index().done(index))
        fuzz::accepts([&] { fuzz::require(reader.read(index).index == index, "a record is its own"); });
    }
    for (const auto& key : reader.index().in_progress()) {
      fuzz::accepts([&] { reader.read_progress(key.first, key.second); });
    }
    identity = reader.identity();
  }
  JournalWriter writer = JournalWriter::open(folder, identity, Fresh::kNo);
  Record record;
  for (record.index = 0; writer.done(record.index);) ++record.index;
  writer.append(record);
  writer.commit();
  fuzz::require(writer.reader().read(record.index) == record,
                "a record can be added behind what is accepted");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Folder folder;
  for (const int64_t segment : {1, 2}) std::filesystem::remove(format::segment_path(folder.path(), segment));
  folder.write("segment-000001.nj", segment_of(fuzz::text_of(data, size)));
  fuzz::accepts([] { resume(folder.path()); });
  return 0;
}
