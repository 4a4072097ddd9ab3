// PreTokenizer: cuts text into the words that BPE works on, one after another.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "lib/text/json_place.h"
#include "lib/text/regex.h"

namespace nemo {

/// The `pre_tokenizer` of tokenizer.json: Split steps and one ByteLevel at the end. Immutable.
class PreTokenizer {
 public:
  using Sink = std::function<void(std::string_view word)>;

  /// Throws Error for anything else, naming it.
  static PreTokenizer parse(const JsonPlace& pre_tokenizer);

  /// Gives the words of `text` (well-formed UTF-8) to `sink`, in order, none of them empty. A view is valid
  /// only during its call. Throws what Regex::find throws.
  void split(std::string_view text, RegexScratch& scratch, const Sink& sink) const;

 private:
  enum class Part { kKeep, kDrop };
  struct Split {
    Regex regex;
    Part matches = Part::kKeep;
    Part gaps = Part::kKeep;  // what lies between matches
  };

  void add_step(const JsonPlace& step);
  void add_split(const JsonPlace& step);
  void add_byte_level(const JsonPlace& step);
  void split_from(size_t step, std::string_view text, RegexScratch& scratch, const Sink& sink) const;

  std::vector<Split> splits_;
  size_t prefix_space_before_ =
      SIZE_MAX;  // the step before which a space is put in front of a piece that has none
  bool has_byte_level_ = false;
};

}  // namespace nemo
