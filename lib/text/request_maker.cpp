#include "lib/text/request_maker.h"

#include <algorithm>

#include "lib/text/text_error.h"
#include "lib/text/utf8.h"

namespace nemo {
namespace {

// What Python's str.rstrip takes away, since that is what defines the split of lm-eval.
size_t size_without_trailing_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    const uint32_t character = first_code_point(text.substr(begin)).value;
    if (!is_white_space(character) && !(character >= 0x1C && character <= 0x1F)) break;
    end = begin;
  }
  return end;
}

}  // namespace

void RequestMaker::fill(const PromptText& prompt, const InputLine&, Request& request) const {
  request.prompt_ids = tokenizer_->encode(prompt.text, AddSpecialTokens::kYes);
}

void RequestMaker::fill(const PromptIds& prompt, const InputLine&, Request& request) const {
  check_ids(prompt.ids, "token_ids");
  if (request.task == Task::kScore) {
    score_all(prompt.ids, request);
  } else {
    request.prompt_ids = prompt.ids;
  }
}

void RequestMaker::fill(const PromptChat& prompt, const InputLine& line, Request& request) const {
  if (chat_template_ == nullptr) {
    throw TextError("template_error",
                    "the checkpoint has no chat template; give \"prompt\" instead of \"messages\"");
  }
  const MessageStyle style = line.form == LineForm::kPlain ? MessageStyle::kAsGiven : MessageStyle::kOpenAi;
  const std::string text = chat_template_->render(
      {prompt.messages_json, prompt.tools_json, prompt.kwargs_json, prompt.add_generation_prompt, style});
  request.prompt_ids = tokenizer_->encode(text, AddSpecialTokens::kNo);
}

void RequestMaker::fill(const ScorePair& pair, const InputLine&, Request& request) const {
  const std::string whole = pair.context + pair.continuation;
  const std::string_view context =
      std::string_view(whole).substr(0, size_without_trailing_space(pair.context));
  std::vector<int32_t> ids = tokenizer_->encode(whole, AddSpecialTokens::kNo);
  if (context.empty()) {
    if (options_.bos_id) ids.insert(ids.begin(), *options_.bos_id);
    return score_all(std::move(ids), request);
  }
  std::vector<int32_t> context_ids = tokenizer_->encode(context, AddSpecialTokens::kNo);
  if (ids.size() > context_ids.size()) {
    const auto cut = ids.begin() + static_cast<ptrdiff_t>(context_ids.size());
    request.prompt_ids.assign(ids.begin(), cut);
    request.continuation_ids.assign(cut, ids.end());
  } else {
    request.prompt_ids = std::move(context_ids);
    request.continuation_ids =
        tokenizer_->encode(std::string_view(whole).substr(context.size()), AddSpecialTokens::kNo);
  }
}

void RequestMaker::fill(const ScoreText& text, const InputLine&, Request& request) const {
  std::vector<int32_t> ids = tokenizer_->encode(text.text, AddSpecialTokens::kNo);
  if (options_.bos_id) ids.insert(ids.begin(), *options_.bos_id);
  score_all(std::move(ids), request);
}

// A model says nothing about the first token, so that is the context.
void RequestMaker::score_all(std::vector<int32_t> ids, Request& request) const {
  if (ids.empty()) return;
  request.prompt_ids.assign(1, ids.front());
  ids.erase(ids.begin());
  request.continuation_ids = std::move(ids);
}

void RequestMaker::check_ids(const std::vector<int32_t>& ids, const char* key) const {
  const int64_t size = tokenizer_->vocab_size();
  const auto unknown = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id < 0 || id >= size; });
  if (unknown == ids.end()) return;
  throw TextError("unknown_token", "\"" + std::string(key) + "\" has the id " + std::to_string(*unknown) +
                                       "; ids are below " + std::to_string(size));
}

void RequestMaker::check_length(Request& request) const {
  const bool is_score = request.task == Task::kScore;
  if (is_score && request.continuation_ids.empty())
    throw TextError("bad_parameter", "there is no token to score");
  if (request.prompt_ids.empty()) throw TextError("bad_parameter", "the prompt has no token");
  // Context and continuation together may be longer: they are scored in rolling windows (score_windows.h).
  const auto size = static_cast<int64_t>(request.prompt_ids.size());
  const int64_t room = options_.max_context - size;
  if (room < (is_score ? 0 : 1)) {
    throw TextError("prompt_too_long",
                    "the prompt has " + std::to_string(size) + " tokens, but the context has " +
                        std::to_string(options_.max_context) +
                        (is_score ? "" : ", of which one at least must be left for the output"));
  }
  if (is_score) return;
  request.sampling.max_tokens = std::min(request.sampling.max_tokens, room);
  request.sampling.min_tokens = std::min(request.sampling.min_tokens, request.sampling.max_tokens);
}

Request RequestMaker::make(int64_t index, const InputLine& line) const {
  Request request;
  request.index = index;
  request.id = line.id.empty() ? std::to_string(index) : line.id;
  request.task = options_.task;
  request.form = line.form;
  request.sampling = line.sampling;
  request.metadata_json = line.metadata_json;
  check_ids(line.sampling.stop_token_ids, "stop_token_ids");
  std::visit([&](const auto& content) { fill(content, line, request); }, line.content);
  check_length(request);
  return request;
}

}  // namespace nemo
