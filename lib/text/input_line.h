// One line of input, understood but not yet tokenized. Pure: no tokenizer, no template, no file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/request/request.h"
#include "lib/text/chat_template.h"

namespace nemo {

/// What a line gives to the model. Views point into the line.
struct PromptText {
  std::string text;
};
struct PromptIds {
  std::vector<int32_t> ids;
};
struct PromptChat {
  std::string_view messages_json;
  std::string_view tools_json;   ///< empty = none
  std::string_view kwargs_json;  ///< empty = none
  AddGenerationPrompt add_generation_prompt = AddGenerationPrompt::kYes;
};
/// Score `continuation` behind `context`.
struct ScorePair {
  std::string context;
  std::string continuation;
};
/// Score all of `text`.
struct ScoreText {
  std::string text;
};

struct InputLine {
  LineForm form = LineForm::kPlain;
  std::string id;  ///< empty = none given
  std::variant<PromptText, PromptIds, PromptChat, ScorePair, ScoreText> content;
  SamplingParams sampling;
  std::string metadata_json;  ///< unknown fields as one JSON object, or empty
};

/// Why a line is no request, and what could be seen of it all the same.
struct LineFault {
  LineForm form = LineForm::kPlain;
  std::string id;
  RequestError error;  ///< without the place
};

/// Reads a non-empty line for `task`; `defaults` are the job's sampling values, which the line's keys
/// override. Never throws for what is in the line.
///
/// generate: {"prompt"}, {"token_ids"}, {"messages", "tools"?, "chat_template_kwargs"?}, or an OpenAI batch
/// line {"custom_id", "body"}. score: {"context", "continuation"}, {"text"} or {"token_ids"}; all tokens but
/// the first of the last two are scored (all, if a BOS goes before the text). `id` is a string or an integer.
/// Every other field is metadata.
std::variant<InputLine, LineFault> parse_input_line(std::string_view line, Task task,
                                                    const SamplingParams& defaults);

}  // namespace nemo
