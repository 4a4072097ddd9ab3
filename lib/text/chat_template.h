// ChatTemplate: messages to prompt text by the checkpoint's own Jinja template.
//
// There is no Jinja for C++ in Debian, and an almost-Jinja would give almost the right prompts. So the
// template is rendered by jinja2 itself, in one python3 child process that starts with the first chat and not
// before: jobs without chats need no Python. The child is sandboxed and limited (see chat_template.py), and
// it is killed when it misses its deadline; then the next render starts another.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace nemo {

enum class AddGenerationPrompt : uint8_t { kNo, kYes };

/// How the messages came in. OpenAI clients send tool call arguments as JSON text and content as a list of
/// parts; templates want mappings and strings, so these are converted under kOpenAi and left alone under
/// kAsGiven.
enum class MessageStyle : uint8_t { kAsGiven, kOpenAi };

/// One conversation. The fields are JSON text and not parsed values because templates see the order of keys
/// (in tool schemas), which a parsed value would lose.
struct ChatRequest {
  std::string_view messages_json;  ///< a list of objects
  std::string_view tools_json;     ///< a list of objects, "null" or empty
  std::string_view kwargs_json;    ///< an object of further template variables, or empty
  AddGenerationPrompt add_generation_prompt = AddGenerationPrompt::kYes;
  MessageStyle style = MessageStyle::kAsGiven;
};

struct ChatOptions {
  std::chrono::milliseconds start{60000};   ///< Python's start, on a slow shared file system
  std::chrono::milliseconds render{10000};  ///< one conversation
  /// What `strftime_now` tells, in local time as "2026-03-05T16:07:08"; empty = the clock. A job that fixes
  /// it is the same job on another day.
  std::string now = {};
};

/// A move-only value owning the child process. Not for use from several threads at once.
class ChatTemplate {
 public:
  /// Reads chat_template.jinja (and additional_chat_templates/*.jinja), or else `chat_template` of
  /// tokenizer_config.json, one text or a list of named ones. Nothing if the folder, or the pack, has no
  /// template. Throws Error for files that cannot be read.
  static std::optional<ChatTemplate> find(const std::string& folder, ChatOptions options = {});
  /// The same; a folder without a template is an Error.
  static ChatTemplate load(const std::string& folder, ChatOptions options = {});

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// The prompt text. Throws TextError "template_error" if the template refuses these messages or takes too
  /// long, and Error if python3 or jinja2 is missing or the template itself is broken. Python is
  /// /usr/bin/python3, or what NEMO_PYTHON names.
  std::string render(const ChatRequest& chat);

  /// Whether the template asks for today's date (`strftime_now`): then a job that is resumed on another day
  /// is not the same job.
  bool reads_clock() const;

 private:
  struct Parts;
  explicit ChatTemplate(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace nemo
