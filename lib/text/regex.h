// Regex: the split patterns of tokenizer.json, matched by PCRE2 with its just-in-time compiler.
//
// The patterns are written for Oniguruma, whose dialect differs from PCRE2's in places. They are translated
// construct by construct, and what has no exact counterpart is refused by name rather than matched
// differently.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace nemo {

/// PCRE2's writing of the Oniguruma pattern. Throws Error that begins with `where`.
std::string translate_oniguruma(std::string_view pattern, const std::string& where);

/// Half-open byte range [begin, end).
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

/// Working memory of matching. Not for use from several threads at once.
class RegexScratch {
 public:
  RegexScratch();

 private:
  friend class Regex;
  template <class T, void (*kFree)(T*)>
  struct Free {
    void operator()(T* p) const { kFree(p); }
  };
  static void free_data(pcre2_real_match_data_8* data);
  static void free_context(pcre2_real_match_context_8* context);
  static void free_stack(pcre2_real_jit_stack_8* stack);

  std::unique_ptr<pcre2_real_match_data_8, Free<pcre2_real_match_data_8, free_data>> data_;
  std::unique_ptr<pcre2_real_jit_stack_8, Free<pcre2_real_jit_stack_8, free_stack>> stack_;
  std::unique_ptr<pcre2_real_match_context_8, Free<pcre2_real_match_context_8, free_context>> context_;
};

/// A compiled pattern; immutable, so it may be shared by threads.
class Regex {
 public:
  /// `pcre2_pattern` is matched as UTF-8 with Unicode properties. Throws Error that begins with `where`.
  Regex(const std::string& pcre2_pattern, const std::string& where);

  /// The first match that begins at `offset` or later. `text` must be well-formed UTF-8, `offset` a character
  /// boundary. Throws TextError "bad_parameter" if matching takes more steps than allowed.
  std::optional<ByteRange> find(std::string_view text, size_t offset, RegexScratch& scratch) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
  bool is_jit_ = false;
};

}  // namespace nemo
