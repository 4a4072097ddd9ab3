#include "lib/request/fingerprint.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/lib/text/temporary_folder.h"

namespace nemo {
namespace {

TEST(Fingerprint, IsXxh3) {
  EXPECT_EQ(fingerprint_bytes(""), "99aa06d3014798d86001c324468d497f");  // the algorithm's published value
}

TEST(Fingerprint, DependsOnContentsCutAndOrderAndOnNothingElse) {
  const TemporaryFolder folder;
  const std::string ab = folder.write("ab", "ab");
  const std::string a = folder.write("a", "a");
  const std::string b = folder.write("b", "b");
  const std::string empty = folder.write("empty", "");
  const std::string other_name = folder.write("sub/other", "ab");
  EXPECT_EQ(fingerprint_files({ab}), fingerprint_files({other_name}));
  EXPECT_NE(fingerprint_files({ab}), fingerprint_files({a, b}));
  EXPECT_NE(fingerprint_files({a, b}), fingerprint_files({b, a}));
  EXPECT_NE(fingerprint_files({a}), fingerprint_files({a, empty}));
  EXPECT_NE(fingerprint_files({}), fingerprint_files({empty}));
  EXPECT_EQ(fingerprint_files({ab}).size(), 32U);
}

TEST(Fingerprint, LargeFilesAreReadInPieces) {
  const TemporaryFolder folder;
  std::string contents(3'000'000, 'x');
  const std::string before = fingerprint_files({folder.write("file", contents)});
  contents[2'500'000] = 'y';
  EXPECT_NE(fingerprint_files({folder.write("file", contents)}), before);
}

TEST(Fingerprint, NamesTheFileThatCannotBeRead) {
  try {
    fingerprint_files({"/nowhere/file"});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("/nowhere/file"), std::string::npos);
  }
}

}  // namespace
}  // namespace nemo
