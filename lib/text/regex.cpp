#include "lib/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <new>

#include "kernels/error.h"
#include "lib/text/text_error.h"

namespace nemo {
namespace {

// Backtracking steps of one match. The published patterns need a few for each byte of a long run (every space
// of a run may have to be given back once), so the limit grows with the text; a pattern like (a+)+b reaches
// it at once all the same.
constexpr uint64_t kMatchLimit = 1'000'000;
constexpr uint64_t kMatchLimitPerByte = 16;
constexpr size_t kFirstStackBytes = 32 * 1024;
constexpr size_t kLastStackBytes = 16 * 1024 * 1024;

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

void RegexScratch::free_data(pcre2_match_data* data) {
  pcre2_match_data_free(data);
}
void RegexScratch::free_context(pcre2_match_context* context) {
  pcre2_match_context_free(context);
}
void RegexScratch::free_stack(pcre2_jit_stack* stack) {
  pcre2_jit_stack_free(stack);
}

RegexScratch::RegexScratch()
    : data_(pcre2_match_data_create(1, nullptr)),
      stack_(pcre2_jit_stack_create(kFirstStackBytes, kLastStackBytes, nullptr)),
      context_(pcre2_match_context_create(nullptr)) {
  if (!data_ || !context_) throw std::bad_alloc();
  pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
}

void Regex::Free::operator()(pcre2_code* code) const {
  pcre2_code_free(code);
}

Regex::Regex(const std::string& pcre2_pattern, const std::string& where) {
  struct FreeContext {
    void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  };
  const std::unique_ptr<pcre2_compile_context, FreeContext> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);  // not what the library was built with
  int error = 0;
  PCRE2_SIZE position = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre2_pattern.data()), pcre2_pattern.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                            &position, context.get()));
  if (!code_) {
    throw Error(where, "the pattern cannot be compiled: " + pcre2_message(error),
                "correct the pattern near \"" +
                    pcre2_pattern.substr(std::min(position, pcre2_pattern.size()), 20) + "\"");
  }
  is_jit_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

std::optional<ByteRange> Regex::find(std::string_view text, size_t offset, RegexScratch& scratch) const {
  const uint64_t limit = kMatchLimit + kMatchLimitPerByte * (text.size() - offset);
  pcre2_set_match_limit(scratch.context_.get(), static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int rc = is_jit_ ? pcre2_jit_match(code_.get(), subject, text.size(), offset, PCRE2_NO_UTF_CHECK,
                                           scratch.data_.get(), scratch.context_.get())
                         : pcre2_match(code_.get(), subject, text.size(), offset, PCRE2_NO_UTF_CHECK,
                                       scratch.data_.get(), scratch.context_.get());
  if (rc == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (rc < 0) {
    throw TextError("bad_parameter", "the tokenizer's split pattern gives up on this text at byte " +
                                         std::to_string(offset) + ": " + pcre2_message(rc));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(scratch.data_.get());
  return ByteRange{range[0], range[1]};
}

}  // namespace nemo
