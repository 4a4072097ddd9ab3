// Journals to be read back or damaged.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lib/output/journal.h"
#include "tests/lib/output/support.h"

namespace nemo::test {

inline const Identity kJournalIdentity = {{"job", "7f"}, {"model", "aa"}, {"guarantee", "avx2 bfloat16"}};

inline JournalWriter open_journal(const std::string& folder, Fresh fresh = Fresh::kNo,
                                  JournalOptions options = {}) {
  return JournalWriter::open(folder, kJournalIdentity, fresh, options);
}

inline std::string first_segment(const TempFolder& folder) {
  return folder / "segment-000001.nj";
}

inline std::vector<Record> some_records(int64_t count, uint64_t seed = 1) {
  RecordMaker make(seed);
  std::vector<Record> records;
  for (int64_t i = 0; i < count; ++i) records.push_back(make.any(i));
  return records;
}

/// One commit a record, so that every record but the last is vouched for. Returns the offsets where records
/// end.
inline std::vector<int64_t> write_one_by_one(const std::string& folder, const std::vector<Record>& records) {
  JournalWriter journal = open_journal(folder);
  const auto size = [&] {
    return static_cast<int64_t>(std::filesystem::file_size(folder + "/segment-000001.nj"));
  };
  std::vector<int64_t> ends = {size()};
  for (const Record& record : records) {
    journal.append(record);
    journal.commit();
    ends.push_back(size());
  }
  return ends;
}

}  // namespace nemo::test
