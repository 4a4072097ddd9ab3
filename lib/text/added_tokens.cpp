#include "lib/text/added_tokens.h"

#include <algorithm>
#include <unordered_set>

#include "lib/text/utf8.h"

namespace nemo {
namespace {

AddedToken parse_token(const JsonPlace& place, int64_t max_ids) {
  AddedToken token;
  token.id = static_cast<int32_t>(place.at("id").integer(0, max_ids - 1));
  token.content = place.at("content").string();
  token.special = place.boolean_or("special", false);
  token.single_word = place.boolean_or("single_word", false);
  token.lstrip = place.boolean_or("lstrip", false);
  token.rstrip = place.boolean_or("rstrip", false);
  token.normalized = place.boolean_or("normalized", !token.special);
  return token;
}

size_t leading_space(std::string_view text) {
  size_t size = 0;
  while (size < text.size()) {
    const CodePoint character = first_code_point(text.substr(size));
    if (!is_white_space(character.value)) break;
    size += character.num_bytes;
  }
  return size;
}

std::string_view last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return text.substr(begin);
}

size_t trailing_space(std::string_view text) {
  const size_t whole = text.size();
  while (!text.empty() && is_white_space(first_code_point(last_character(text)).value)) {
    text.remove_suffix(last_character(text).size());
  }
  return whole - text.size();
}

}  // namespace

AddedTokens AddedTokens::parse(const JsonPlace& added_tokens, int64_t max_ids) {
  std::vector<AddedToken> tokens;
  std::unordered_set<int32_t> ids;
  std::unordered_set<std::string> contents;
  for (size_t i = 0; i < added_tokens.array().size(); ++i) {
    const JsonPlace place = added_tokens.at(i);
    AddedToken token = parse_token(place, max_ids);
    if (!ids.insert(token.id).second)
      place.at("id").fail("id " + std::to_string(token.id) + " is given twice");
    if (!contents.insert(token.content).second) {
      place.at("content").fail("token \"" + token.content + "\" is given twice");
    }
    tokens.push_back(std::move(token));
  }
  return AddedTokens(std::move(tokens));
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), as_given_(tokens_, false), normalized_(tokens_, true) {
  const bool any =
      std::any_of(tokens_.begin(), tokens_.end(), [](const AddedToken& t) { return t.single_word; });
  // The word characters of Unicode's regular expressions, annex C.
  if (any) word_character_.emplace("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]", "added_tokens");
}

AddedTokens::Matcher::Matcher(const std::vector<AddedToken>& tokens, bool normalized) {
  for (const AddedToken& token : tokens) {
    if (token.normalized != normalized || token.content.empty()) continue;  // an empty token is nowhere
    sorted.emplace_back(token.content, &token);
    is_first_byte[static_cast<unsigned char>(token.content[0])] = true;
  }
  std::sort(sorted.begin(), sorted.end());
}

const AddedToken* AddedTokens::Matcher::longest_at(std::string_view text) const {
  if (!is_first_byte[static_cast<unsigned char>(text[0])]) return nullptr;
  auto begin = sorted.begin();
  auto end = sorted.end();
  const AddedToken* longest = nullptr;
  for (size_t depth = 0; depth < text.size() && begin != end; ++depth) {
    const auto byte = static_cast<unsigned char>(text[depth]);
    const auto byte_of = [&](const auto& entry) { return static_cast<unsigned char>(entry.first[depth]); };
    begin = std::partition_point(begin, end, [&](const auto& entry) { return byte_of(entry) < byte; });
    end = std::partition_point(begin, end, [&](const auto& entry) { return byte_of(entry) == byte; });
    if (begin != end && begin->first.size() == depth + 1) longest = (begin++)->second;
  }
  return longest;
}

bool AddedTokens::adjoins_word(std::string_view before, std::string_view behind,
                               RegexScratch& scratch) const {
  if (!before.empty() && word_character_->find(last_character(before), 0, scratch)) return true;
  if (behind.empty()) return false;
  return word_character_->find(behind.substr(0, first_code_point(behind).num_bytes), 0, scratch).has_value();
}

void AddedTokens::split_by(const Matcher& matcher, std::string_view text, RegexScratch& scratch,
                           std::vector<TextPiece>& out) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = matcher.longest_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + token->content.size();
    at = end;
    if (token->single_word && adjoins_word(text.substr(0, begin), text.substr(end), scratch)) continue;
    if (token->lstrip) begin = std::max(done, begin - trailing_space(text.substr(0, begin)));
    if (token->rstrip) end += leading_space(text.substr(end));
    if (done < begin) out.push_back({text.substr(done, begin - done)});
    out.push_back({text.substr(begin, end - begin), token->id});
    done = end;
  }
  if (done < text.size()) out.push_back({text.substr(done)});
}

std::vector<TextPiece> AddedTokens::split(std::string_view text, RegexScratch& scratch) const {
  std::vector<TextPiece> pieces;
  split_by(as_given_, text, scratch, pieces);
  if (normalized_.sorted.empty()) return pieces;
  std::vector<TextPiece> result;
  for (const TextPiece& piece : pieces) {
    if (piece.id < 0) {
      split_by(normalized_, piece.text, scratch, result);
    } else {
      result.push_back(piece);
    }
  }
  return result;
}

}  // namespace nemo
