#include "lib/text/input_line.h"

#include <algorithm>
#include <optional>

#include "lib/config/sampling_limits.h"
#include "lib/request/sampling_json.h"
#include "lib/text/json_members.h"
#include "lib/text/line_values.h"
#include "lib/text/openai_body.h"
#include "lib/text/text_error.h"
#include "lib/text/utf8.h"

namespace nemo {
namespace {

// Ids are repeated in every output line and in the journal.
constexpr size_t kMaxIdBytes = 1024;

class FieldReader {
 public:
  FieldReader(const std::vector<JsonMember>& members, Task task)
      : members_(members), task_(task), used_(members.size()) {}

  void read(InputLine& line) {
    refuse_repeated_keys();
    if (is_openai()) {
      read_openai(line);
    } else {
      line.id = take_id("id");
      read_sampling(line.sampling);
      if (task_ == Task::kGenerate) {
        read_prompt(line);
      } else {
        read_score(line);
      }
    }
    line.metadata_json = rest_as_json();
  }

 private:
  const JsonMember* find(std::string_view key) const {
    const auto it =
        std::find_if(members_.begin(), members_.end(), [&](const JsonMember& m) { return m.key == key; });
    return it == members_.end() ? nullptr : &*it;
  }

  /// The member, which is not metadata then. A null counts as missing.
  const JsonMember* take(std::string_view key) {
    const JsonMember* member = find(key);
    if (member == nullptr) return nullptr;
    used_[static_cast<size_t>(member - members_.data())] = true;
    return member->value == "null" ? nullptr : member;
  }

  void refuse_repeated_keys() const {
    std::vector<std::string_view> keys;
    for (const JsonMember& member : members_) keys.push_back(member.key);
    std::sort(keys.begin(), keys.end());
    const auto repeated = std::adjacent_find(keys.begin(), keys.end());
    if (repeated != keys.end())
      throw_malformed("\"" + std::string(repeated->substr(0, 100)) + "\" is given twice");
  }

  bool is_openai() const {
    if (find("body") == nullptr) return false;
    return find("custom_id") != nullptr || find("url") != nullptr;
  }

  std::string take_id(std::string_view key) {
    const JsonMember* member = take(key);
    if (member == nullptr) return {};
    const char first = member->value.front();
    std::string id;
    if (first == '"') {
      id = string_value(*member);
    } else if (member->value.find_first_not_of("-0123456789") == std::string_view::npos) {
      id = member->value;
    } else {
      throw_malformed("\"" + member->key + "\" must be a string or an integer");
    }
    if (id.size() > kMaxIdBytes) {
      throw_malformed("\"" + member->key + "\" is longer than " + std::to_string(kMaxIdBytes) + " bytes");
    }
    return id;
  }

  void read_sampling(SamplingParams& sampling) {
    for (const JsonMember& member : members_) {
      if (!is_sampling_key(member.key) || take(member.key) == nullptr) continue;
      const auto fault = set_sampling_key(sampling, member.key, nlohmann::json::parse(member.value));
      if (fault) throw_bad_parameter(*fault);
    }
  }

  void read_prompt(InputLine& line) {
    const JsonMember* prompt = take("prompt");
    const JsonMember* ids = take("token_ids");
    const JsonMember* messages = take("messages");
    const int given = (prompt != nullptr) + (ids != nullptr) + (messages != nullptr);
    if (given == 0) throw_malformed("has none of \"prompt\", \"messages\" and \"token_ids\"");
    if (given > 1) throw_malformed("must have only one of \"prompt\", \"messages\" and \"token_ids\"");
    if (prompt != nullptr) line.content = PromptText{string_value(*prompt)};
    if (ids != nullptr) line.content = PromptIds{ids_value(*ids)};
    if (messages != nullptr) line.content = take_chat(*messages);
  }

  PromptChat take_chat(const JsonMember& messages) {
    PromptChat chat;
    chat.messages_json = list_value(messages);
    if (const JsonMember* tools = take("tools")) chat.tools_json = list_value(*tools);
    if (const JsonMember* kwargs = take("chat_template_kwargs")) chat.kwargs_json = object_value(*kwargs);
    return chat;
  }

  void read_score(InputLine& line) {
    const JsonMember* context = take("context");
    const JsonMember* continuation = take("continuation");
    if (context != nullptr && continuation != nullptr) {
      line.content = ScorePair{string_value(*context), string_value(*continuation)};
    } else if (context != nullptr || continuation != nullptr) {
      throw_malformed("must have both \"context\" and \"continuation\"");
    } else if (const JsonMember* text = take("text")) {
      line.content = ScoreText{string_value(*text)};
    } else if (const JsonMember* ids = take("token_ids")) {
      line.content = PromptIds{ids_value(*ids)};
    } else {
      throw_malformed(
          "has nothing to score: give \"context\" and \"continuation\", \"text\", or \"token_ids\"");
    }
  }

  void read_openai(InputLine& line) {
    line.form = LineForm::kOpenAiChat;
    line.id = take_id("custom_id");
    if (line.id.empty()) throw_malformed("\"custom_id\" is missing");
    if (task_ == Task::kScore)
      throw_bad_parameter("an OpenAI batch line generates, but the job's task is score");
    const JsonMember* method = take("method");
    if (method != nullptr && string_value(*method) != "POST") throw_bad_parameter("\"method\" must be POST");
    const JsonMember* url = take("url");
    const JsonMember* body = take("body");
    if (body == nullptr) throw_malformed("\"body\" is missing");
    read_openai_body(object_value(*body), url == nullptr ? "" : string_value(*url), line);
  }

  std::string rest_as_json() const {
    std::string json;
    for (size_t i = 0; i < members_.size(); ++i) {
      if (used_[i]) continue;
      json.append(json.empty() ? "{" : ",")
          .append(members_[i].key_json)
          .append(":")
          .append(members_[i].value);
    }
    if (!json.empty()) json += '}';
    return json;
  }

  const std::vector<JsonMember>& members_;
  Task task_;
  std::vector<bool> used_;
};

void read_line(std::string_view text, Task task, InputLine& line) {
  if (const auto offset = find_invalid_utf8(text)) {
    throw TextError("invalid_utf8", "the line is not UTF-8 at its byte " + std::to_string(*offset));
  }
  if (const auto fault = find_json_fault(text)) throw_malformed("the line is not valid JSON: " + *fault);
  const auto members = json_members(text);
  if (!members) throw_malformed("the line is not a JSON object");
  FieldReader(*members, task).read(line);
  if (const auto fault = invalid_sampling(line.sampling)) throw_bad_parameter(*fault);
}

}  // namespace

std::variant<InputLine, LineFault> parse_input_line(std::string_view text, Task task,
                                                    const SamplingParams& defaults) {
  InputLine line;
  line.sampling = defaults;
  try {
    read_line(text, task, line);
  } catch (const TextError& error) {
    return LineFault{line.form, line.id, {error.code(), error.what()}};
  }
  return line;
}

}  // namespace nemo
