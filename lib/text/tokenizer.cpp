#include "lib/text/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "kernels/error.h"
#include "lib/text/added_tokens.h"
#include "lib/text/bpe.h"
#include "lib/text/json_place.h"
#include "lib/text/post_processor.h"
#include "lib/text/pretokenizer.h"
#include "lib/text/text_error.h"
#include "lib/text/token_table.h"
#include "lib/text/utf8.h"
#include "lib/text/word_cache.h"
#include "lib/weights/model_files.h"

namespace nemo {
namespace {

constexpr uintmax_t kMaxFileBytes = 512U << 20;  // the published ones have 17 MB

std::string read_tokenizer_file(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) {
    throw Error(path, "cannot be read: " + error.message(),
                "give a checkpoint folder that has a tokenizer.json");
  }
  if (size > kMaxFileBytes) throw Error(path, "is too large for a tokenizer.json", JsonPlace::kDamaged);
  std::string text(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    throw Error(path, "cannot be read to its end", "check the file and its permissions");
  }
  return text;
}

nlohmann::json parse_json(std::string_view text, const std::string& name) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    throw Error(name, std::string("is not JSON: ") + error.what(), JsonPlace::kDamaged);
  }
}

// A null value where the file has nothing under `key`.
JsonPlace member_or_null(const JsonPlace& root, const std::string& key) {
  static const nlohmann::json null;
  const auto found = root.find(key);
  return found ? *found : root.member(key, null);
}

void refuse_normalizer(const JsonPlace& normalizer) {
  if (normalizer.is_null()) return;
  const std::string& type = normalizer.at("type").string();
  if (type == "Sequence" && normalizer.at("normalizers").array().empty()) return;
  normalizer.refuse("normalizer " + type);
}

void check_decoder(const JsonPlace& decoder) {
  if (decoder.is_null()) decoder.refuse("a tokenizer without decoder");
  const std::string& type = decoder.at("type").string();
  if (type == "ByteLevel") return;
  if (type != "Sequence") decoder.refuse("decoder " + type);
  const JsonPlace steps = decoder.at("decoders");
  if (steps.array().size() != 1) steps.refuse("a sequence of none or several decoders");
  const std::string& only = steps.at(size_t{0}).at("type").string();
  if (only != "ByteLevel") steps.refuse("decoder " + only);
}

void add_to_table(const JsonPlace& root, const AddedTokens& added, TokenTable& tokens) {
  for (const AddedToken& token : added.tokens()) {
    const auto known = tokens.find(token.content);
    if (known == token.id) continue;
    const JsonPlace place = root.at("added_tokens");
    if (known) {
      place.fail("token \"" + token.content + "\" has id " + std::to_string(token.id) + " here and " +
                 std::to_string(*known) + " in the vocabulary");
    }
    if (!tokens.add(token.id, token.content)) {
      place.fail("id " + std::to_string(token.id) + " of \"" + token.content +
                 "\" is another token's in the vocabulary");
    }
  }
}

std::vector<int32_t> special_ids_of(const AddedTokens& added) {
  std::vector<int32_t> ids;
  for (const AddedToken& token : added.tokens()) {
    if (token.special) ids.push_back(token.id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace

struct Tokenizer::Parts {
  TokenTable tokens;
  AddedTokens added;
  BpeModel model;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  std::vector<int32_t> special_ids;
  std::vector<bool> is_special;  // by id
  WordCache cache;
  std::mutex cache_mutex;
};

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::string& path) {
  if (is_pack(path)) {
    const auto text = find_model_file(path, "tokenizer.json", kMaxFileBytes);
    if (!text) throw Error(path, "carries no tokenizer.json", "pack a checkpoint folder that has one");
    return parse(*text, path + ": tokenizer.json");
  }
  const bool is_folder = std::filesystem::is_directory(path);
  const std::string file = is_folder ? (std::filesystem::path(path) / "tokenizer.json").string() : path;
  return parse(read_tokenizer_file(file), file);
}

Tokenizer Tokenizer::parse(std::string_view json_text, const std::string& name) {
  const nlohmann::json json = parse_json(json_text, name);
  const JsonPlace root(json, name);
  refuse_normalizer(member_or_null(root, "normalizer"));
  check_decoder(member_or_null(root, "decoder"));
  static const nlohmann::json no_tokens = nlohmann::json::array();
  const auto added_place = root.find("added_tokens");
  TokenTable tokens;
  BpeModel model = BpeModel::parse(root.at("model"), tokens);
  AddedTokens added = AddedTokens::parse(added_place ? *added_place : root.member("added_tokens", no_tokens),
                                         TokenTable::kMaxIds);
  add_to_table(root, added, tokens);
  PostProcessor post_processor = PostProcessor::parse(member_or_null(root, "post_processor"), tokens);
  std::vector<int32_t> special_ids = special_ids_of(added);
  std::vector<bool> is_special(static_cast<size_t>(tokens.size()), false);
  for (const int32_t id : special_ids) is_special[static_cast<size_t>(id)] = true;
  return Tokenizer(
      std::unique_ptr<Parts>(new Parts{std::move(tokens),
                                       std::move(added),
                                       std::move(model),
                                       PreTokenizer::parse(member_or_null(root, "pre_tokenizer")),
                                       std::move(post_processor),
                                       std::move(special_ids),
                                       std::move(is_special),
                                       {},
                                       {}}));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, AddSpecialTokens add) const {
  if (const auto offset = find_invalid_utf8(text)) {
    throw TextError("invalid_utf8", "the text is not UTF-8 at byte " + std::to_string(*offset));
  }
  Parts& parts = *parts_;
  const bool with_template = add == AddSpecialTokens::kYes;
  std::vector<int32_t> ids;
  if (with_template) ids = parts.post_processor.prefix;
  RegexScratch regex_scratch;
  BpeScratch bpe_scratch;
  // The cache is a help, not a need: a second thread does without it rather than wait.
  const std::unique_lock cache_lock(parts.cache_mutex, std::try_to_lock);
  const auto encode_word = [&](std::string_view word) {
    if (cache_lock && parts.cache.find(word, ids)) return;
    const size_t begin = ids.size();
    parts.model.encode_word(word, bpe_scratch, ids);
    if (cache_lock) parts.cache.put(word, std::span(ids).subspan(begin));
  };
  const PreTokenizer::Sink sink = encode_word;
  for (const TextPiece& piece : parts.added.split(text, regex_scratch)) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
    } else {
      parts.pre_tokenizer.split(piece.text, regex_scratch, sink);
    }
  }
  if (with_template)
    ids.insert(ids.end(), parts.post_processor.suffix.begin(), parts.post_processor.suffix.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, SkipSpecialTokens skip) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (skip == SkipSpecialTokens::kNo || !is_special(id)) bytes += token_bytes(id);
  }
  std::string text;
  move_utf8(bytes, text, OpenTail::kReplace);
  return text;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  return parts_->tokens.bytes(id);
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return parts_->tokens.find(token);
}

int64_t Tokenizer::vocab_size() const {
  return parts_->tokens.size();
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && parts_->is_special[static_cast<size_t>(id)];
}

std::span<const int32_t> Tokenizer::special_ids() const {
  return parts_->special_ids;
}
std::span<const int32_t> Tokenizer::prefix_ids() const {
  return parts_->post_processor.prefix;
}
std::span<const int32_t> Tokenizer::suffix_ids() const {
  return parts_->post_processor.suffix;
}

}  // namespace nemo
