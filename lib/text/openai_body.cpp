#include "lib/text/openai_body.h"

#include <algorithm>
#include <array>

#include "lib/request/sampling_json.h"
#include "lib/text/json_members.h"
#include "lib/text/line_values.h"

namespace nemo {
namespace {

// What says nothing about the result.
constexpr std::array<std::string_view, 6> kIgnoredKeys = {"model", "user",         "metadata",
                                                          "store", "service_tier", "stream_options"};

class BodyReader {
 public:
  explicit BodyReader(InputLine& line) : line_(line) {}

  void read(const std::vector<JsonMember>& members, std::string_view url) {
    const auto has = [&](std::string_view key) {
      return std::any_of(members.begin(), members.end(), [&](const JsonMember& m) { return m.key == key; });
    };
    line_.form = form_of(url, has("messages"));
    for (const JsonMember& member : members) {
      if (member.value != "null") take(member);
    }
    if (line_.form == LineForm::kOpenAiChat) {
      if (!has("messages")) throw_malformed("the body has no \"messages\"");
      finish_chat();
    } else if (!has("prompt")) {
      throw_malformed("the body has no \"prompt\"");
    }
  }

 private:
  static LineForm form_of(std::string_view url, bool has_messages) {
    if (url.ends_with("/chat/completions")) return LineForm::kOpenAiChat;
    if (url.ends_with("/completions")) return LineForm::kOpenAiCompletion;
    if (!url.empty()) {
      throw_bad_parameter("url \"" + std::string(url.substr(0, 100)) +
                          "\" is not supported; /v1/chat/completions and /v1/completions are");
    }
    return has_messages ? LineForm::kOpenAiChat : LineForm::kOpenAiCompletion;
  }

  void take(const JsonMember& member) {
    const std::string& key = member.key;
    if (std::find(kIgnoredKeys.begin(), kIgnoredKeys.end(), key) != kIgnoredKeys.end()) return;
    const bool is_chat = line_.form == LineForm::kOpenAiChat;
    if (is_chat ? take_chat_key(member) : take_completion_key(member)) return;
    if (key == "max_completion_tokens") return set_max_completion_tokens(member);
    if (key == "max_tokens" && has_max_completion_tokens_) return;
    if (is_sampling_key(key)) return set_sampling(key, member);
    if (!is_harmless(member))
      throw_bad_parameter("\"" + key.substr(0, 100) + "\" of the body is not supported");
  }

  bool take_chat_key(const JsonMember& member) {
    const std::string& key = member.key;
    if (key == "messages") {
      chat_.messages_json = list_value(member);
    } else if (key == "tools") {
      chat_.tools_json = list_value(member);
    } else if (key == "tool_choice") {
      tool_choice_ = member.value;
    } else if (key == "chat_template_kwargs") {
      chat_.kwargs_json = object_value(member);
    } else if (key == "add_generation_prompt") {
      chat_.add_generation_prompt = bool_value(member) ? AddGenerationPrompt::kYes : AddGenerationPrompt::kNo;
    } else if (key == "logprobs") {
      wants_logprobs_ = bool_value(member);
    } else if (key == "top_logprobs") {
      top_logprobs_ = int_value(member);
    } else {
      return false;
    }
    return true;
  }

  bool take_completion_key(const JsonMember& member) {
    if (member.key == "prompt") {
      if (member.value.front() == '"') {
        line_.content = PromptText{string_value(member)};
      } else if (member.value.find_first_of("\"[", 1) != std::string_view::npos) {
        throw_bad_parameter("\"prompt\" of the body has several prompts; give each a line of its own");
      } else {
        line_.content = PromptIds{ids_value(member)};
      }
      return true;
    }
    if (member.key != "logprobs") return false;
    set_sampling("logprobs", member);
    line_.sampling.logprobs = std::max<int64_t>(line_.sampling.logprobs, 1);  // 0 asks for the chosen token's
    return true;
  }

  // Values that ask for what happens anyway.
  bool is_harmless(const JsonMember& member) const {
    const std::string& key = member.key;
    if (key == "stream" || key == "echo") return member.value == "false";
    if (key == "suffix") return member.value == "\"\"";
    if (key == "parallel_tool_calls") return member.value == "true";
    if (key == "best_of") return int_value(member) == 1;
    if (key == "logit_bias") return json_members(member.value) && json_members(member.value)->empty();
    if (key != "response_format" || !json_members(member.value)) return false;
    const auto members = *json_members(member.value);
    return members.size() == 1 && members[0].key == "type" && members[0].value == "\"text\"";
  }

  void set_sampling(std::string_view key, const JsonMember& member) {
    const auto fault = set_sampling_key(line_.sampling, key, nlohmann::json::parse(member.value));
    if (fault) throw_bad_parameter(*fault);
  }

  // The newer name of max_tokens; where both are given, it is meant.
  void set_max_completion_tokens(const JsonMember& member) {
    has_max_completion_tokens_ = true;
    set_sampling("max_tokens", member);
  }

  void finish_chat() {
    if (tool_choice_ == "\"none\"") chat_.tools_json = {};
    if (!tool_choice_.empty() && tool_choice_ != "\"none\"" && tool_choice_ != "\"auto\"") {
      throw_bad_parameter("\"tool_choice\" of the body must be \"auto\" or \"none\"");
    }
    if (chat_.tools_json == "[]") chat_.tools_json = {};
    if (top_logprobs_ > 0 && !wants_logprobs_)
      throw_bad_parameter("\"top_logprobs\" needs \"logprobs\": true");
    if (top_logprobs_ < 0) throw_bad_parameter("\"top_logprobs\" must not be negative");
    line_.sampling.logprobs = wants_logprobs_ ? std::max<int64_t>(top_logprobs_, 1) : 0;
    line_.content = chat_;
  }

  InputLine& line_;
  PromptChat chat_;
  std::string_view tool_choice_;
  bool has_max_completion_tokens_ = false;
  bool wants_logprobs_ = false;
  int64_t top_logprobs_ = 0;
};

}  // namespace

void read_openai_body(std::string_view body, std::string_view url, InputLine& line) {
  const auto members = json_members(body);
  if (!members) throw_malformed("\"body\" must be an object");
  BodyReader(line).read(*members, url);
}

}  // namespace nemo
