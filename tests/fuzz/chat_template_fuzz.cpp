// Rendering by the child process: messages, tools, further variables and, after a zero byte each, a template;
// an empty one is a plain loop. A template of its own costs a start of Python, so the fuzzer is slow with
// those.
#include <optional>

#include "lib/text/chat_template.h"
#include "lib/text/json_members.h"
#include "lib/text/utf8.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using namespace nemo;

constexpr std::string_view kPlainTemplate =
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% for call in "
    "message.tool_calls "
    "%}{{ call.function.name }}{{ call.function.arguments | tojson }}{% endfor %}\n{% endfor %}{{ tools | "
    "tojson "
    "}}{% if add_generation_prompt %}<assistant>{% endif %}";

ChatTemplate& template_of(const std::string& text) {
  static const fuzz::Folder folder;
  static std::optional<ChatTemplate> current;
  static std::string current_text;
  if (!current || current_text != text) {
    folder.write("chat_template.jinja", text);
    current.reset();
    // Far from what a job has, since a template that never ends is a usual finding of the fuzzer, and no
    // fault.
    current = ChatTemplate::load(folder.path(), {.render = std::chrono::seconds(3)});
    current_text = text;
  }
  return *current;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<std::string> parts = fuzz::split(fuzz::text_of(data, size), 4);
  // As parse_input_line does: only JSON reaches the child.
  if (find_json_fault(parts[0])) return 0;
  for (size_t i = 1; i < 3; ++i) {
    if (!parts[i].empty() && find_json_fault(parts[i])) return 0;
  }
  for (const auto style : {MessageStyle::kAsGiven, MessageStyle::kOpenAi}) {
    fuzz::accepts([&] {
      ChatTemplate& chat = template_of(parts[3].empty() ? std::string(kPlainTemplate) : parts[3]);
      const ChatRequest request = {parts[0], parts[1], parts[2], AddGenerationPrompt::kYes, style};
      fuzz::require(!find_invalid_utf8(chat.render(request)), "a prompt is UTF-8");
    });
  }
  return 0;
}
