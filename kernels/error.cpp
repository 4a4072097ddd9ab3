#include "kernels/error.h"

namespace nemo {

std::string Error::compose(std::string_view where, std::string_view what, std::string_view remedy) {
  std::string text;
  if (!where.empty()) text.append(where).append(": ");
  text.append(what);
  if (!remedy.empty()) text.append(" (").append(remedy).append(")");
  return text;
}

void throw_broken_invariant(const char* condition, const std::string& detail,
                            const std::source_location& location) {
  throw Error(std::string(location.file_name()) + ":" + std::to_string(location.line()),
              std::string("broken invariant `") + condition + "`: " + detail,
              "this is a bug in nemo-dist; please report it with the job file");
}

}  // namespace nemo
