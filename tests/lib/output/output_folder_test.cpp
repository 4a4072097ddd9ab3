#include "lib/output/output_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/output/support.h"

namespace nemo {
namespace {

using test::error_of;
using test::read_file;
using test::TempFolder;
using test::write_file;

const Identity kIdentity = {{"job", "7f"}};

// A folder in which a job has been run to its end.
void finish_job(const std::string& path) {
  OutputFolder folder = OutputFolder::open(path, Fresh::kNo);
  JournalWriter journal = folder.open_journal(kIdentity);
  journal.append(Record{.index = 0});
  journal.commit();
  for (const std::string& file : {folder.jsonl_path(), folder.hdf5_path(), folder.manifest_path()}) {
    write_file(file, "done");
  }
}

TEST(OutputFolder, IsMadeWithItsParents) {
  const TempFolder temp;
  OutputFolder folder = OutputFolder::open(temp / "a/b/out", Fresh::kNo);
  const JournalWriter journal = folder.open_journal(kIdentity);
  EXPECT_EQ(journal.folder(), temp / "a/b/out/journal");
  EXPECT_EQ(folder.jsonl_path(), temp / "a/b/out/results.jsonl");
  EXPECT_TRUE(std::filesystem::exists(temp / "a/b/out/journal/segment-000001.nj"));
}

TEST(OutputFolder, ResumingKeepsResultsAndClearsUnfinishedFiles) {
  const TempFolder temp;
  finish_job(temp.path());
  write_file(temp / "results.jsonl.partial", "half");
  OutputFolder folder = OutputFolder::open(temp.path(), Fresh::kNo);
  EXPECT_TRUE(folder.open_journal(kIdentity).done(0));
  EXPECT_EQ(read_file(temp / "results.jsonl"), "done");
  EXPECT_FALSE(std::filesystem::exists(temp / "results.jsonl.partial"));
}

TEST(OutputFolder, FreshDiscardsJournalResultsAndManifest) {
  const TempFolder temp;
  finish_job(temp.path());
  write_file(temp / "notes.txt", "the user's");
  OutputFolder folder = OutputFolder::open(temp.path(), Fresh::kYes);
  for (const char* name : {"results.jsonl", "results.h5", "manifest.json"}) {
    EXPECT_FALSE(std::filesystem::exists(temp / name)) << name;
  }
  EXPECT_FALSE(folder.open_journal({{"job", "another"}}).done(0));
  EXPECT_EQ(read_file(temp / "notes.txt"), "the user's");
}

TEST(OutputFolder, FreshTakesNothingFromARunThatLives) {
  const TempFolder temp;
  finish_job(temp.path());
  const OutputFolder folder = OutputFolder::open(temp.path(), Fresh::kNo);
  EXPECT_NE(error_of([&] { OutputFolder::open(temp.path(), Fresh::kYes); }).find("another run"),
            std::string::npos);
  EXPECT_EQ(read_file(temp / "results.jsonl"), "done");
}

TEST(OutputFolder, ResultsWithoutAJournalAreNotOverwritten) {
  const TempFolder temp;
  finish_job(temp.path());
  std::filesystem::remove(temp / "journal/segment-000001.nj");
  const std::string error = error_of([&] { OutputFolder::open(temp.path(), Fresh::kNo); });
  EXPECT_NE(error.find("no journal"), std::string::npos) << error;
  EXPECT_NE(error.find("--fresh"), std::string::npos) << error;
  EXPECT_NO_THROW(OutputFolder::open(temp.path(), Fresh::kYes));
}

TEST(OutputFolder, AFileInTheWayIsNamed) {
  const TempFolder temp;
  write_file(temp / "out", "x");
  EXPECT_NE(error_of([&] { OutputFolder::open(temp / "out", Fresh::kNo); }).find(temp / "out"),
            std::string::npos);
  EXPECT_NE(error_of([&] { OutputFolder::open(temp / "out/below", Fresh::kNo); }).find("Not a directory"),
            std::string::npos);
}

// Root may write everywhere, so the child becomes somebody else where it can.
TEST(OutputFolder, AFolderThatCannotBeWrittenIsNamed) {
  const TempFolder temp;
  std::filesystem::create_directory(temp / "out");
  ASSERT_EQ(chmod(temp.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod((temp / "out").c_str(), 0555), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(0);
    const std::string error = error_of([&] { OutputFolder::open(temp / "out", Fresh::kNo); });
    const bool is_clear = error.find("cannot be written") != std::string::npos &&
                          error.find("Permission denied") != std::string::npos &&
                          error.find("choose an output.path") != std::string::npos;
    _exit(is_clear ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace nemo
