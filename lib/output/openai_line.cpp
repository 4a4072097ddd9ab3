#include "lib/output/openai_line.h"

#include <algorithm>
#include <set>

namespace nemo {
namespace {

using TokenBytes = std::function<std::string(int32_t)>;

std::string numbered(const char* prefix, int64_t index) {
  std::string digits = std::to_string(index);
  if (digits.size() < 12) digits.insert(0, 12 - digits.size(), '0');  // so that ids sort in input order
  return prefix + digits;
}

std::string name_of(int32_t token_id, const TokenBytes& token_bytes) {
  return token_bytes ? token_bytes(token_id) : "token_id:" + std::to_string(token_id);
}

void append_chat_token(JsonLine& json, const TokenLogprob& token, const TokenBytes& token_bytes) {
  const std::string bytes = name_of(token.token_id, token_bytes);
  json.key("token").value(bytes);
  json.key("logprob").value(token.logprob);
  json.key("bytes");
  if (!token_bytes) {
    json.null();
    return;
  }
  json.begin_array();
  for (const char byte : bytes) json.value(static_cast<int32_t>(static_cast<unsigned char>(byte)));
  json.end_array();
}

void append_chat_logprobs(JsonLine& json, const Output& output, const TokenBytes& token_bytes) {
  json.begin_object().key("content").begin_array();
  for (size_t i = 0; i < output.logprobs.size(); ++i) {
    json.begin_object();
    append_chat_token(json, {output.token_ids[i], output.logprobs[i]}, token_bytes);
    json.key("top_logprobs").begin_array();
    if (i < output.top_logprobs.size()) {
      for (const TokenLogprob& top : output.top_logprobs[i]) {
        json.begin_object();
        append_chat_token(json, top, token_bytes);
        json.end_object();
      }
    }
    json.end_array().end_object();
  }
  json.end_array().key("refusal").null().end_object();
}

// Characters, not bytes: what `text_offset` counts.
int64_t num_characters(const std::string& utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

void append_top_map(JsonLine& json, const std::vector<TokenLogprob>& top, const TokenBytes& token_bytes) {
  std::set<std::string>
      names;  // two tokens that are no whole characters may look alike: the likelier one stays
  json.begin_object();
  for (const TokenLogprob& token : top) {
    const std::string name = to_valid_utf8(name_of(token.token_id, token_bytes));
    if (names.insert(name).second) json.key(name).value(token.logprob);
  }
  json.end_object();
}

void append_completion_logprobs(JsonLine& json, const Output& output, const TokenBytes& token_bytes) {
  std::vector<std::string> names;
  std::vector<int64_t> offsets;
  int64_t offset = 0;
  for (size_t i = 0; i < output.logprobs.size(); ++i) {
    names.push_back(to_valid_utf8(name_of(output.token_ids[i], token_bytes)));
    offsets.push_back(offset);
    offset += num_characters(names.back());
  }
  json.begin_object().key("tokens").value(names).key("token_logprobs").value(output.logprobs);
  json.key("top_logprobs");
  if (output.top_logprobs.empty()) {
    json.null();
  } else {
    json.begin_array();
    for (const auto& top : output.top_logprobs) append_top_map(json, top, token_bytes);
    json.end_array();
  }
  json.key("text_offset").value(offsets).end_object();
}

void append_choice(JsonLine& json, const Record& record, size_t sample, const TokenBytes& token_bytes) {
  const Output& output = record.outputs[sample];
  const bool is_chat = record.form == LineForm::kOpenAiChat;
  json.begin_object().key("index").value(static_cast<int64_t>(sample));
  if (is_chat) {
    json.key("message").begin_object().key("role").value("assistant").key("content").value(output.text);
    json.key("refusal").null().end_object();
  } else {
    json.key("text").value(output.text);
  }
  json.key("logprobs");
  if (output.logprobs.empty()) {
    json.null();
  } else if (is_chat) {
    append_chat_logprobs(json, output, token_bytes);
  } else {
    append_completion_logprobs(json, output, token_bytes);
  }
  json.key("finish_reason").value(output.finish_reason).end_object();
}

void append_body(JsonLine& json, const Record& record, const std::string& model,
                 const TokenBytes& token_bytes) {
  const bool is_chat = record.form == LineForm::kOpenAiChat;
  json.begin_object().key("id").value(numbered(is_chat ? "chatcmpl-" : "cmpl-", record.index));
  json.key("object").value(is_chat ? "chat.completion" : "text_completion");
  json.key("created").value(int64_t{0}).key("model").value(model);
  json.key("choices").begin_array();
  int64_t completion_tokens = 0;
  for (size_t sample = 0; sample < record.outputs.size(); ++sample) {
    append_choice(json, record, sample, token_bytes);
    completion_tokens += static_cast<int64_t>(record.outputs[sample].token_ids.size());
  }
  json.end_array().key("usage").begin_object();
  json.key("prompt_tokens").value(record.num_prompt_tokens);
  json.key("completion_tokens").value(completion_tokens);
  json.key("total_tokens").value(record.num_prompt_tokens + completion_tokens);
  json.end_object().end_object();
}

}  // namespace

void append_openai_line(JsonLine& json, const Record& record, const std::string& model,
                        const std::function<std::string(int32_t)>& token_bytes) {
  json.begin_object().key("id").value(numbered("batch_req_", record.index));
  json.key("custom_id").value(record.id);
  json.key("response");
  if (record.error) {
    json.null();
    json.key("error").begin_object().key("code").value(record.error->code);
    json.key("message").value(record.error->message).end_object();
  } else {
    json.begin_object().key("status_code").value(int64_t{200});
    json.key("request_id").value(numbered("req_", record.index));
    json.key("body");
    append_body(json, record, model, token_bytes);
    json.end_object().key("error").null();
  }
  json.end_object();
}

}  // namespace nemo
