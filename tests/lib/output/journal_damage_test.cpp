// Journals of which a part is missing, changed or of something else.
#include <gtest/gtest.h>

#include <algorithm>

#include "lib/output/journal_format.h"
#include "lib/output/journal_scan.h"
#include "tests/lib/output/journal_fixtures.h"

namespace nemo {
namespace {

using namespace test;

TEST(DamagedJournal, TruncatedAnywhereKeepsEveryWholeRecord) {
  const TempFolder folder;
  const auto records = some_records(5);
  const std::vector<int64_t> ends = write_one_by_one(folder.path(), records);
  const std::string bytes = read_file(first_segment(folder));
  for (int64_t size = 0; size <= static_cast<int64_t>(bytes.size()); ++size) {
    write_file(first_segment(folder), bytes.substr(0, static_cast<size_t>(size)));
    const auto whole =
        std::max<int64_t>(std::upper_bound(ends.begin(), ends.end(), size) - ends.begin() - 1, 0);
    JournalWriter journal = open_journal(folder.path());
    ASSERT_EQ(journal.index().num_done(), whole) << size;
    ASSERT_EQ(journal.dropped_bytes(), size < ends[0] ? size : size - ends[static_cast<size_t>(whole)]);
    for (const Record& record : records) {
      if (!journal.done(record.index)) journal.append(record);
    }
    journal.commit();
    JournalReader reader = journal.reader();
    for (const Record& record : records) ASSERT_EQ(reader.read(record.index), record) << size;
  }
}

// After a crash the tail may be anything: zeros where blocks were not written, or a later block without an
// earlier one.
TEST(DamagedJournal, TornTailWithHolesIsDropped) {
  const TempFolder folder;
  const auto records = some_records(6);
  write_one_by_one(folder.path(), {records.begin(), records.begin() + 2});
  const size_t durable = std::filesystem::file_size(first_segment(folder));
  {
    JournalWriter journal = open_journal(folder.path());
    for (size_t i = 2; i < 6; ++i) journal.append(records[i]);
    journal.commit();
  }
  std::string bytes = read_file(first_segment(folder));
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(durable), 40, '\0');
  write_file(first_segment(folder), bytes);
  JournalWriter journal = open_journal(folder.path());
  EXPECT_EQ(journal.index().num_done(), 2);
  EXPECT_EQ(journal.dropped_bytes(), static_cast<int64_t>(bytes.size() - durable));
}

TEST(DamagedJournal, EveryFlippedBitIsFoundOrInTheTail) {
  const TempFolder folder;
  const std::vector<int64_t> ends = write_one_by_one(folder.path(), some_records(4, 5));
  const std::string bytes = read_file(first_segment(folder));
  const int64_t last = ends[ends.size() - 2];
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string bad = bytes;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    write_file(first_segment(folder), bad);
    const std::string error = error_of([&] {
      const JournalScan scan = scan_journal(folder.path());
      ASSERT_EQ(scan.last_bytes, last);
      ASSERT_EQ(scan.dropped_bytes, static_cast<int64_t>(bytes.size()) - last);
    });
    const bool is_in_tail = static_cast<int64_t>(bit / 8) >= last;
    ASSERT_EQ(error.empty(), is_in_tail) << "bit " << bit << ": " << error;
    ASSERT_TRUE(is_in_tail || error.find(first_segment(folder)) != std::string::npos) << error;
  }
}

TEST(DamagedJournal, DamageNamesOffsetAndRemedyAndTheRemedyWorks) {
  const TempFolder folder;
  const auto records = some_records(5);
  const std::vector<int64_t> ends = write_one_by_one(folder.path(), records);
  std::string bytes = read_file(first_segment(folder));
  bytes[static_cast<size_t>(ends[2]) + 60] ^= 4;
  write_file(first_segment(folder), bytes);
  const std::string error = error_of([&] { open_journal(folder.path()); });
  EXPECT_NE(error.find("damaged at offset " + std::to_string(ends[2])), std::string::npos) << error;
  EXPECT_NE(error.find("truncate -s " + std::to_string(ends[2])), std::string::npos) << error;
  EXPECT_NE(error.find("--fresh"), std::string::npos) << error;
  EXPECT_EQ(read_file(first_segment(folder)), bytes) << "a damaged journal is left as it is";
  std::filesystem::resize_file(first_segment(folder), static_cast<uintmax_t>(ends[2]));
  EXPECT_EQ(open_journal(folder.path()).index().num_done(), 2);
}

TEST(DamagedJournal, MissingDamagedAndForeignSegmentsAreErrors) {
  const TempFolder folder;
  {
    JournalWriter journal = open_journal(folder.path(), Fresh::kNo, {.segment_bytes = 1});
    for (const Record& record : some_records(3)) {
      journal.append(record);
      journal.commit();
    }
  }
  ASSERT_EQ(list_segments(folder.path()), (std::vector<int64_t>{1, 2, 3}));
  const std::string second = folder / "segment-000002.nj";
  const std::string bytes = read_file(second);
  write_file(second, bytes.substr(0, bytes.size() - 1));
  EXPECT_NE(error_of([&] { open_journal(folder.path()); }).find("damaged"), std::string::npos)
      << "not the last segment";
  write_file(second, read_file(folder / "segment-000003.nj"));
  EXPECT_NE(error_of([&] { open_journal(folder.path()); }).find(second), std::string::npos)
      << "a copy under a wrong number";
  write_file(second, journal_format::encode_segment_header(2, {{"job", "other"}}));
  EXPECT_NE(error_of([&] { open_journal(folder.path()); }).find("another journal"), std::string::npos);
  std::filesystem::remove(second);
  EXPECT_NE(error_of([&] { open_journal(folder.path()); }).find("missing"), std::string::npos);
  EXPECT_EQ(open_journal(folder.path(), Fresh::kYes).index().num_done(), 0);
  EXPECT_EQ(list_segments(folder.path()), (std::vector<int64_t>{1}));
}

TEST(DamagedJournal, AnotherVersionIsRefusedAsSuch) {
  const TempFolder folder;
  write_one_by_one(folder.path(), some_records(1));
  std::string bytes = read_file(first_segment(folder));
  bytes[8] = 2;
  write_file(first_segment(folder), bytes);
  EXPECT_NE(error_of([&] { open_journal(folder.path()); }).find("version 2"), std::string::npos);
}

}  // namespace
}  // namespace nemo
