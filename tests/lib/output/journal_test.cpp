#include "lib/output/journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "lib/output/journal_scan.h"
#include "tests/lib/output/journal_fixtures.h"

namespace nemo {
namespace {

using namespace test;

TEST(Journal, KeepsRecordsAndProgress) {
  const TempFolder folder;
  const auto records = some_records(200);
  SampleProgress early{500, 1, {}};
  early.output.token_ids = {1, 2};
  SampleProgress late = early;
  late.output.token_ids = {1, 2, 3};
  late.output.logprobs = {-1.0f, -2.0f, -0.5f};
  {
    JournalWriter journal = open_journal(folder.path());
    for (const Record& record : records) journal.append(record);
    EXPECT_FALSE(journal.done(0)) << "not durable yet";
    journal.append(early);
    journal.append(late);
    journal.append(SampleProgress{7, 0, {}});  // of a finished request
    journal.commit();
    EXPECT_TRUE(journal.done(0));
    JournalReader reader = journal.reader();
    for (const Record& record : records) EXPECT_EQ(reader.read(record.index), record);
  }
  JournalReader reader = JournalReader::open(folder.path());
  EXPECT_EQ(reader.identity(), kJournalIdentity);
  EXPECT_EQ(reader.index().num_done(), 200);
  for (auto record = records.rbegin(); record != records.rend(); ++record) {
    EXPECT_EQ(reader.read(record->index), *record);
  }
  EXPECT_EQ(reader.read_progress(500, 1), late);
  EXPECT_EQ(reader.read_progress(500, 0), std::nullopt);
  EXPECT_EQ(reader.index().in_progress(), (std::vector<std::pair<int64_t, int64_t>>{{500, 1}}));
  EXPECT_NE(error_of([&] { reader.read(200); }).find("request 200 is not done"), std::string::npos);
}

TEST(Journal, KeepsTheLatestCountOfWork) {
  const TempFolder folder;
  {
    JournalWriter journal = open_journal(folder.path());
    EXPECT_EQ(journal.index().work(), WorkDone{});
    journal.append(WorkDone{3, 4});
    journal.append(some_records(1).front());
    journal.append(WorkDone{5, 6});
    EXPECT_EQ(journal.index().work(), WorkDone{}) << "not durable yet";
    journal.commit();
    EXPECT_EQ(journal.index().work(), (WorkDone{5, 6}));
  }
  const JournalReader reader = JournalReader::open(folder.path());
  EXPECT_EQ(reader.index().work(), (WorkDone{5, 6}));
  EXPECT_EQ(reader.index().num_done(), 1);
}

TEST(Journal, ResumesAcrossSegments) {
  const TempFolder folder;
  const auto records = some_records(300);
  const JournalOptions small{.segment_bytes = 4096};
  for (int64_t begin = 0; begin < 300; begin += 50) {
    JournalWriter journal = open_journal(folder.path(), Fresh::kNo, small);
    EXPECT_EQ(journal.index().num_done(), begin);
    EXPECT_EQ(journal.dropped_bytes(), 0);
    for (int64_t i = begin; i < begin + 50; ++i) {
      journal.append(records[static_cast<size_t>(i)]);
      if (i % 7 == 0) journal.commit();
    }
    journal.commit();
  }
  EXPECT_GT(list_segments(folder.path()).size(), 20u) << "more files than a reader keeps open";
  JournalReader reader = JournalReader::open(folder.path());
  for (int64_t i = 0; i < 300; ++i) {
    const int64_t index = i * 77 % 300;
    EXPECT_EQ(reader.read(index), records[static_cast<size_t>(index)]);
  }
}

TEST(Journal, FinishingTwiceBreaksAnInvariant) {
  const TempFolder folder;
  JournalWriter journal = open_journal(folder.path());
  const Record record = some_records(1).front();
  journal.append(record);
  EXPECT_THROW(journal.append(record), Error);
  journal.commit();
  EXPECT_THROW(journal.append(record), Error);
  EXPECT_THROW(journal.append(Record{.index = -1}), Error);
  EXPECT_THROW(journal.append(Record{.index = JournalIndex::kMaxRequests}), Error);
}

TEST(Journal, AnotherIdentityIsRefusedWithBothValues) {
  const TempFolder folder;
  write_one_by_one(folder.path(), some_records(2));
  const Identity other = {{"job", "7f"}, {"model", "bb"}, {"tokenizer", "t"}};
  const std::string error = error_of([&] { JournalWriter::open(folder.path(), other, Fresh::kNo); });
  for (const char* part :
       {"model was \"aa\" and is now \"bb\"", "guarantee was \"avx2 bfloat16\" and is now absent",
        "tokenizer was absent and is now \"t\"", "--fresh", "another output.path"}) {
    EXPECT_NE(error.find(part), std::string::npos) << error;
  }
  EXPECT_EQ(error.find("job was"), std::string::npos) << error;
  EXPECT_EQ(open_journal(folder.path()).index().num_done(), 2) << "the refusal changes nothing";
  EXPECT_EQ(JournalWriter::open(folder.path(), other, Fresh::kYes).index().num_done(), 0);
}

TEST(Journal, LongIdentitiesShowTheLineThatDiffers) {
  const TempFolder folder;
  std::string yaml(5000, 'a');
  yaml += "\nsampling:\n  seed: 1\n  n: 1\n";
  std::string changed = yaml;
  changed.replace(changed.find("seed: 1"), 7, "seed: 2");
  JournalWriter::open(folder.path(), {{"job", yaml}}, Fresh::kNo);
  const std::string error = error_of([&] {
    JournalWriter::open(folder.path(), {{"job", changed}}, Fresh::kNo);
  });
  EXPECT_NE(error.find("job was \"  seed: 1\" and is now \"  seed: 2\""), std::string::npos) << error;
  EXPECT_LT(error.size(), 500u);
}

TEST(Journal, AnIdentityNeedNotBeUtf8) {
  const TempFolder folder;
  const Identity odd = {{"path", "/data/\xff\xfe"}};
  JournalWriter::open(folder.path(), odd, Fresh::kNo);
  EXPECT_NO_THROW(JournalWriter::open(folder.path(), odd, Fresh::kNo));
}

TEST(Journal, ASecondRunIsRefusedWhileTheFirstLives) {
  const TempFolder folder;
  {
    const JournalWriter journal = open_journal(folder.path());
    const std::string error = error_of([&] { open_journal(folder.path(), Fresh::kYes); });
    EXPECT_NE(error.find("another run is writing here: process " + std::to_string(getpid())),
              std::string::npos)
        << error;
  }
  EXPECT_NO_THROW(open_journal(folder.path()));
}

// Runs `body` in a child, so that limits and kills stay there; returns its wait status.
template <class Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST(Journal, KilledRunKeepsWhatWasCommitted) {
  const TempFolder folder;
  const auto records = some_records(20);
  const int status = in_child([&] {
    JournalWriter journal = open_journal(folder.path());
    for (size_t i = 0; i < 20; ++i) {
      journal.append(records[i]);
      if (i == 12) journal.commit();
    }
    raise(SIGKILL);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(open_journal(folder.path()).index().num_done(), 13);
}

// A limit on the file's size stands for a full disk: the write comes back short, then fails.
TEST(Journal, FullDiskIsAnErrorAndLeavesAGoodJournal) {
  const TempFolder folder;
  const auto records = some_records(400);
  const int status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    JournalWriter journal = open_journal(folder.path());
    const rlimit limit{20000, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    std::string error;
    size_t taken = 0;
    while (error.empty() && taken < records.size()) {
      journal.append(records[taken++]);
      if (taken % 5 == 0) error = error_of([&] { journal.commit(); });
    }
    if (error.find("segment-000001.nj: cannot write: File too large") == std::string::npos) _exit(1);
    if (JournalReader::open(folder.path()).index().num_done() != static_cast<int64_t>(taken) - 5) _exit(2);
    // Space again: nothing was lost, the same commit succeeds.
    const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &none);
    journal.commit();
    if (journal.index().num_done() != static_cast<int64_t>(taken)) _exit(3);
    JournalReader reader = journal.reader();
    for (size_t i = 0; i < taken; ++i) {
      if (reader.read(static_cast<int64_t>(i)) != records[i]) _exit(4);
    }
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(open_journal(folder.path()).dropped_bytes(), 0);
}

TEST(Journal, NoSpaceForANewSegmentIsAnErrorAndCanBeTriedAgain) {
  const TempFolder folder;
  const auto records = some_records(2);
  const int status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    JournalWriter journal = open_journal(folder.path(), Fresh::kNo, {.segment_bytes = 100});
    journal.append(records[0]);
    const rlimit limit{10, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    if (error_of([&] { journal.append(records[1]); }).empty()) _exit(1);
    if (list_segments(folder.path()).size() != 1) _exit(2);
    const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &none);
    journal.append(records[1]);
    journal.commit();
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(open_journal(folder.path(), Fresh::kNo, {.segment_bytes = 100}).index().num_done(), 2);
}

TEST(Journal, ChangesUnderAReaderAreNoticed) {
  const TempFolder folder;
  const std::vector<int64_t> ends = write_one_by_one(folder.path(), some_records(3));
  JournalReader reader = JournalReader::open(folder.path());
  std::string bytes = read_file(first_segment(folder));
  bytes[static_cast<size_t>(ends[1]) + 70] ^= 1;
  write_file(first_segment(folder), bytes);
  EXPECT_NO_THROW(reader.read(0));
  EXPECT_NE(error_of([&] { reader.read(1); }).find("changed at offset"), std::string::npos);
}

TEST(Files, FullDeviceIsNamed) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const FileDescriptor full = open_file("/dev/full", O_WRONLY);
  const std::string error = error_of([&] { write_all(full, "x", "/dev/full"); });
  EXPECT_NE(error.find("/dev/full: cannot write: No space left on device"), std::string::npos) << error;
  EXPECT_NE(error.find("it resumes"), std::string::npos) << error;
}

TEST(JournalIndex, TakesEightBytesARequest) {
  JournalIndex index;
  constexpr int64_t kCount = 1000000;
  for (int64_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(index.insert(i * 7919 % kCount, {1 + i / 1000, 100 + i}, {}));
  }
  EXPECT_EQ(index.num_done(), kCount);
  EXPECT_LT(index.memory_bytes(), kCount * 8 + (128 << 10));
  EXPECT_EQ(index.find(7919), (JournalLocation{1, 101}));
  EXPECT_FALSE(index.insert(7919, {2, 200}, {}));
  EXPECT_FALSE(index.done(kCount));
  EXPECT_FALSE(index.done(-1));
}

TEST(JournalIndex, HighIndexesTakeLittle) {
  JournalIndex index;
  EXPECT_TRUE(index.insert(JournalIndex::kMaxRequests - 1, {1, 100}, {}));
  EXPECT_TRUE(index.done(JournalIndex::kMaxRequests - 1));
  EXPECT_LT(index.memory_bytes(), 16 << 20);
  EXPECT_THROW(index.insert(JournalIndex::kMaxRequests, {1, 100}, {}), Error);
  EXPECT_THROW(index.insert(1, {1 << 24, 100}, {}), Error);
}

}  // namespace
}  // namespace nemo
