// The one exception type of nemo-dist and the two checks that throw it. Lives in kernels/ because
// everything else stands to the right of kernels/ and needs it too.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace nemo {

/// What kind of trouble it is; decides the exit code (see launch/main.cpp).
enum class ErrorKind {
  kFailure,  ///< something went wrong while running: exit code 1
  kBadJob,   ///< the job file or the command line is wrong: exit code 2
};

/// An error that ends a phase or the job. `what()` is one text: where, what is wrong, what to do.
/// Trouble with a single request is never an Error: it becomes an output record.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what, ErrorKind kind = ErrorKind::kFailure)
      : std::runtime_error(what), kind_(kind) {}
  /// `where` names a file, tensor or key; `remedy` (may be empty) says what the user can do.
  Error(std::string_view where, std::string_view what, std::string_view remedy,
        ErrorKind kind = ErrorKind::kFailure)
      : std::runtime_error(compose(where, what, remedy)), kind_(kind) {}

  ErrorKind kind() const { return kind_; }

 private:
  static std::string compose(std::string_view where, std::string_view what, std::string_view remedy);
  ErrorKind kind_;
};

/// A broken invariant of our own code (never for input from users). Throws Error with file and line.
[[noreturn]] void throw_broken_invariant(
    const char* condition, const std::string& detail,
    const std::source_location& location = std::source_location::current());

}  // namespace nemo

/// Always on. `detail` is evaluated only on failure.
#define NEMO_CHECK(condition, detail)                     \
  do {                                                    \
    if (!(condition)) [[unlikely]]                        \
      ::nemo::throw_broken_invariant(#condition, detail); \
  } while (false)
