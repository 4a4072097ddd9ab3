#include "lib/text/pretokenizer.h"

#include <cctype>

#include "lib/text/utf8.h"

namespace nemo {
namespace {

// What ByteLevel splits by when it is told to split: GPT-2's pattern.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr size_t kMaxSplits = 32;  // each is one level of recursion

std::string quoted_literal(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    const bool plain =
        static_cast<unsigned char>(c) >= 0x80 || std::isalnum(static_cast<unsigned char>(c)) || c == ' ';
    if (plain) {
      pattern += c;
    } else {
      constexpr char kDigits[] = "0123456789abcdef";
      pattern += std::string("\\x{") + kDigits[(c >> 4) & 15] + kDigits[c & 15] + "}";
    }
  }
  return pattern;
}

std::string pattern_of(const JsonPlace& pattern) {
  if (const auto regex = pattern.find("Regex")) return translate_oniguruma(regex->string(), regex->where());
  if (const auto literal = pattern.find("String")) return quoted_literal(literal->string());
  pattern.fail("must be an object with \"Regex\" or \"String\"");
}

}  // namespace

PreTokenizer PreTokenizer::parse(const JsonPlace& pre_tokenizer) {
  PreTokenizer result;
  if (pre_tokenizer.is_null()) pre_tokenizer.refuse("a tokenizer without pre-tokenizer");
  result.add_step(pre_tokenizer);
  if (!result.has_byte_level_) pre_tokenizer.refuse("a pre-tokenizer without ByteLevel");
  return result;
}

void PreTokenizer::add_step(const JsonPlace& step) {
  const std::string& type = step.at("type").string();
  if (type == "Sequence") {
    const JsonPlace steps = step.at("pretokenizers");
    for (size_t i = 0; i < steps.array().size(); ++i) {
      // Deeper nesting says nothing that one list could not, and would let a file overflow our stack.
      if (steps.at(i).at("type").string() == "Sequence") steps.at(i).refuse("a Sequence inside a Sequence");
      add_step(steps.at(i));
    }
  } else if (has_byte_level_) {
    step.refuse("pre-tokenizer " + type + " behind ByteLevel");
  } else if (type == "Split") {
    add_split(step);
  } else if (type == "ByteLevel") {
    add_byte_level(step);
  } else {
    step.refuse("pre-tokenizer " + type);
  }
}

void PreTokenizer::add_split(const JsonPlace& step) {
  const JsonPlace behavior = step.at("behavior");
  const bool invert = step.boolean_or("invert", false);
  Split split{Regex(pattern_of(step.at("pattern")), step.where())};
  if (behavior.string() == "Removed") {
    (invert ? split.gaps : split.matches) = Part::kDrop;
  } else if (behavior.string() != "Isolated") {
    behavior.refuse("split behavior " + behavior.string());
  }
  if (splits_.size() == kMaxSplits)
    step.refuse("a sequence of more than " + std::to_string(kMaxSplits) + " splits");
  splits_.push_back(std::move(split));
}

void PreTokenizer::add_byte_level(const JsonPlace& step) {
  has_byte_level_ = true;
  if (step.boolean_or("add_prefix_space", true)) prefix_space_before_ = splits_.size();
  if (!step.boolean_or("use_regex", true)) return;
  splits_.push_back({Regex(translate_oniguruma(kByteLevelPattern, step.where()), step.where())});
}

void PreTokenizer::split(std::string_view text, RegexScratch& scratch, const Sink& sink) const {
  if (!text.empty()) split_from(0, text, scratch, sink);
}

void PreTokenizer::split_from(size_t step, std::string_view text, RegexScratch& scratch,
                              const Sink& sink) const {
  std::string with_space;
  if (step == prefix_space_before_ && text.front() != ' ') {
    with_space.reserve(text.size() + 1);
    with_space += ' ';
    with_space += text;
    text = with_space;
  }
  if (step == splits_.size()) return sink(text);
  const Split& split = splits_[step];
  const auto give = [&](size_t begin, size_t end) {
    if (begin < end) split_from(step + 1, text.substr(begin, end - begin), scratch, sink);
  };
  size_t done = 0;
  size_t from = 0;
  while (from <= text.size()) {
    const auto match = split.regex.find(text, from, scratch);
    if (!match) break;
    if (split.gaps == Part::kKeep) give(done, match->begin);
    if (split.matches == Part::kKeep) give(match->begin, match->end);
    done = match->end;
    from = done;
    // An empty match would be found again for ever: go on behind the next character.
    if (match->begin == match->end)
      from += done < text.size() ? first_code_point(text.substr(done)).num_bytes : 1;
  }
  if (split.gaps == Part::kKeep) give(done, text.size());
}

}  // namespace nemo
