// The error of one request's text: thrown inside lib/text, caught by PromptSource, which makes a Record of
// it.
#pragma once

#include <stdexcept>
#include <string>

namespace nemo {

/// Trouble with one text, not with the job. Not an Error, so that no catch of Error ends the job for it.
class TextError : public std::runtime_error {
 public:
  /// `code` is a RequestError code: "invalid_utf8", "unknown_token", "template_error", ...
  TextError(std::string code, const std::string& what) : std::runtime_error(what), code_(std::move(code)) {}

  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

}  // namespace nemo
