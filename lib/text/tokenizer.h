// Tokenizer: text to token ids and back, as the `tokenizer.json` of a checkpoint says. Byte-level BPE, the
// only kind that Nemotron-H checkpoints carry; whatever else a file asks for is refused by its name when it
// is loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

/// Whether the post-processor's template (a BOS token, in some checkpoints) is applied.
enum class AddSpecialTokens : uint8_t { kNo, kYes };
enum class SkipSpecialTokens : uint8_t { kNo, kYes };

/// A move-only value; const members may be called from several threads at once.
class Tokenizer {
 public:
  /// `path` is a folder with a tokenizer.json, a pack that carries one, or the file. Throws Error naming
  /// file, place in the file, what is wrong and the remedy.
  static Tokenizer load(const std::string& path);
  /// The same from the file's text; `name` stands for the file in errors.
  static Tokenizer parse(std::string_view json_text, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Throws TextError "invalid_utf8" naming the byte offset, "unknown_token" if the vocabulary has no token
  /// for a byte, "bad_parameter" if the text drives the file's own split pattern into its match limit.
  std::vector<int32_t> encode(std::string_view text, AddSpecialTokens add) const;

  /// The text of `ids`; broken UTF-8 becomes U+FFFD, ids without a token (a model's padded rows) become
  /// nothing.
  std::string decode(std::span<const int32_t> ids, SkipSpecialTokens skip) const;

  /// The raw bytes that `id` stands for, which need not be whole characters; empty for ids without a token.
  /// Valid as long as the tokenizer.
  std::string_view token_bytes(int32_t id) const;

  /// The id of a token in the file's spelling ("<|im_end|>", "Ġthe").
  std::optional<int32_t> token_to_id(std::string_view token) const;

  /// All ids are in [0, vocab_size()).
  int64_t vocab_size() const;

  /// Whether `id` is an added token marked special.
  bool is_special(int32_t id) const;
  /// All special ids, ascending.
  std::span<const int32_t> special_ids() const;

  /// What AddSpecialTokens::kYes puts before and behind a text; mostly empty.
  std::span<const int32_t> prefix_ids() const;
  std::span<const int32_t> suffix_ids() const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace nemo
