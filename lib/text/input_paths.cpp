// expand_input_paths of prompt_source.h.
#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "kernels/error.h"
#include "lib/text/prompt_source.h"

namespace nemo {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& path, const char* what, const char* remedy) {
  throw Error("input.path " + path, what, remedy, ErrorKind::kBadJob);
}

std::vector<std::string> files_of_pattern(const std::string& pattern) {
  glob_t found{};
  const int rc = glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> files;
  if (rc == 0) files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  if (rc != 0 && rc != GLOB_NOMATCH)
    refuse(pattern, "cannot be searched", "check the folder and its permissions");
  // By bytes: glob's own order is that of the locale, which is another on another machine.
  std::sort(files.begin(), files.end());
  return files;
}

void check_readable(const std::string& path) {
  if (fs::is_directory(path)) refuse(path, "is a folder", "name its files, or give a pattern like *.jsonl");
  if (!fs::is_regular_file(path)) {
    refuse(path, "is not a file",
           "write the prompts to a file: a resumed job must be able to read them again");
  }
}

}  // namespace

std::vector<std::string> expand_input_paths(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (path == "-" || path.ends_with("/-")) {
      refuse(path, "standard input is not supported",
             "write the prompts to a file: a resumed job must be able to read them again");
    }
    if (fs::exists(path)) {
      check_readable(path);
      files.push_back(path);
      continue;
    }
    if (path.find_first_of("*?[") == std::string::npos) refuse(path, "does not exist", "check the path");
    const std::vector<std::string> matches = files_of_pattern(path);
    if (matches.empty()) refuse(path, "matches no file", "check the pattern");
    for (const std::string& match : matches) check_readable(match);
    files.insert(files.end(), matches.begin(), matches.end());
  }
  return files;
}

}  // namespace nemo
