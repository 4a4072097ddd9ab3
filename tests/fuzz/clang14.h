// std::source_location, which Debian 12's GCC 12 headers have only for compilers with a builtin that clang 14
// lacks. Included before everything in the fuzzers' build.
#pragma once

#include <version>

#if !defined(__cpp_lib_source_location)
namespace std {

class source_location {
 public:
  static constexpr source_location current(const char* file = __builtin_FILE(),
                                           unsigned line = __builtin_LINE()) {
    source_location result;
    result.file_ = file;
    result.line_ = line;
    return result;
  }
  constexpr const char* file_name() const { return file_; }
  constexpr unsigned line() const { return line_; }

 private:
  const char* file_ = "";
  unsigned line_ = 0;
};

}  // namespace std
#endif
