// RequestMaker: an understood line to a request of token ids.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/request/request.h"
#include "lib/text/chat_template.h"
#include "lib/text/input_line.h"
#include "lib/text/tokenizer.h"

namespace nemo {

struct RequestMakerOptions {
  Task task = Task::kGenerate;
  int64_t max_context = 0;        ///< tokens of prompt and output together
  std::optional<int32_t> bos_id;  ///< the context of a scored text that has none
};

/// Borrows tokenizer and chat template (nullptr: there is none). Not for use from several threads at once,
/// because of the template.
class RequestMaker {
 public:
  RequestMaker(RequestMakerOptions options, const Tokenizer& tokenizer, ChatTemplate* chat_template)
      : options_(options), tokenizer_(&tokenizer), chat_template_(chat_template) {}

  /// Prompt texts get the tokenizer's special tokens, as Hugging Face adds them; chats and scored texts do
  /// not: a template writes its own, and evaluations compare with numbers made without. `max_tokens` is cut
  /// to what the context leaves. Throws TextError: "template_error", "unknown_token", "prompt_too_long",
  /// "bad_parameter" for a prompt without tokens.
  ///
  /// A scored pair is tokenized as one text and cut where the context alone would end, with the white space
  /// at the context's end counted to the continuation, as lm-eval does. If the continuation has no token of
  /// its own then (it was merged into the context's last one), both are tokenized apart.
  Request make(int64_t index, const InputLine& line) const;

 private:
  void fill(const PromptText& prompt, const InputLine& line, Request& request) const;
  void fill(const PromptIds& prompt, const InputLine& line, Request& request) const;
  void fill(const PromptChat& prompt, const InputLine& line, Request& request) const;
  void fill(const ScorePair& pair, const InputLine& line, Request& request) const;
  void fill(const ScoreText& text, const InputLine& line, Request& request) const;
  void score_all(std::vector<int32_t> ids, Request& request) const;
  void check_ids(const std::vector<int32_t>& ids, const char* key) const;
  void check_length(Request& request) const;

  RequestMakerOptions options_;
  const Tokenizer* tokenizer_;
  ChatTemplate* chat_template_;
};

}  // namespace nemo
