#include "lib/text/chat_template.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "lib/text/chat_template_script.h"
#include "lib/text/json_place.h"
#include "lib/text/python_child.h"
#include "lib/text/text_error.h"
#include "lib/text/utf8.h"
#include "lib/weights/model_files.h"

namespace nemo {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileRemedy = "take the file from the checkpoint's source again";
constexpr uint64_t kMaxFileBytes = 16U << 20;

using Templates = std::map<std::string, std::string>;  // by name

std::optional<std::string> find_text(const std::string& model_path, const std::string& name) {
  auto text = find_model_file(model_path, name, kMaxFileBytes);
  if (text && find_invalid_utf8(*text))
    throw Error(model_file_place(model_path, name), "is not UTF-8", kFileRemedy);
  return text;
}

Templates templates_of_files(const std::string& model_path) {
  Templates templates;
  if (auto text = find_text(model_path, "chat_template.jinja")) templates["default"] = std::move(*text);
  for (const std::string& file : model_file_names(model_path)) {
    if (!file.starts_with("additional_chat_templates/") || !file.ends_with(".jinja")) continue;
    const std::string name = fs::path(file).stem().string();
    // It travels as JSON.
    if (find_invalid_utf8(name))
      throw Error(model_file_place(model_path, file), "has a name that is not UTF-8", kFileRemedy);
    templates[name] = find_text(model_path, file).value();
  }
  return templates;
}

Templates templates_of_config(const JsonPlace& config) {
  Templates templates;
  const auto place = config.find("chat_template");
  if (!place) return templates;
  if (place->value().is_string()) {
    templates["default"] = place->string();
    return templates;
  }
  for (size_t i = 0; i < place->array().size(); ++i) {
    templates[place->at(i).at("name").string()] = place->at(i).at("template").string();
  }
  return templates;
}

// The named special tokens, which templates know as variables.
nlohmann::json special_variables(const JsonPlace& config) {
  nlohmann::json variables = nlohmann::json::object();
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto token = config.find(name);
    if (token) variables[name] = token->value().is_object() ? token->at("content").string() : token->string();
  }
  return variables;
}

nlohmann::json read_config(const std::string& model_path, const std::string& name) {
  const auto text = find_text(model_path, name);
  if (!text) return nlohmann::json::object();
  try {
    return nlohmann::json::parse(*text);
  } catch (const nlohmann::json::exception& error) {
    throw Error(model_file_place(model_path, name), std::string("is not JSON: ") + error.what(), kFileRemedy);
  }
}

std::string python_path() {
  const char* path = std::getenv("NEMO_PYTHON");
  return path != nullptr && *path != '\0' ? path : "/usr/bin/python3";
}

std::string seconds_text(std::chrono::milliseconds time) {
  std::string text = std::to_string(std::chrono::duration<double>(time).count());
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " s";
}

std::string frame_of(const ChatRequest& chat) {
  const auto or_else = [](std::string_view json, std::string_view otherwise) {
    return json.empty() ? otherwise : json;
  };
  std::string frame = "{\"messages\":";
  frame.append(or_else(chat.messages_json, "null"));
  frame.append(",\"tools\":").append(or_else(chat.tools_json, "null"));
  frame.append(",\"kwargs\":").append(or_else(chat.kwargs_json, "{}"));
  frame.append(",\"add_generation_prompt\":");
  frame.append(chat.add_generation_prompt == AddGenerationPrompt::kYes ? "true" : "false");
  frame.append(",\"openai\":").append(chat.style == MessageStyle::kOpenAi ? "true}" : "false}");
  return frame;
}

}  // namespace

struct ChatTemplate::Parts {
  std::string folder;
  ChatOptions options;
  std::string start_frame;
  bool reads_clock = false;
  std::unique_ptr<PythonChild> child;

  void start();
};

// Called with the first chat and after a child had to be ended.
void ChatTemplate::Parts::start() {
  const std::string python = python_path();
  auto starting = std::make_unique<PythonChild>(python, kChatTemplateScript);
  const PythonChild::Answer answer = starting->exchange(start_frame, options.start);
  if (answer.status == PythonChild::Status::kTimedOut) {
    throw Error(python, "did not start within " + seconds_text(options.start),
                "check the file system it lies on");
  }
  if (answer.status == PythonChild::Status::kEnded) {
    throw Error(python, "ended while starting", "check that `" + python + " -I -c 'import jinja2'` works");
  }
  const std::string said = answer.payload.substr(1);
  switch (answer.payload.front()) {
    case 'R':
      child = std::move(starting);
      return;
    case 'M':
      throw Error(python, "chats need jinja2: " + said, "apt-get install python3-jinja2");
    default:
      throw Error(folder, "the chat template cannot be used: " + said, kFileRemedy);
  }
}

ChatTemplate::ChatTemplate(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::optional<ChatTemplate> ChatTemplate::find(const std::string& folder, ChatOptions options) {
  const nlohmann::json config = read_config(folder, "tokenizer_config.json");
  const std::string config_name = model_file_place(folder, "tokenizer_config.json");
  const JsonPlace place(config, config_name);
  Templates templates = templates_of_files(folder);
  if (!templates.contains("default")) {
    templates.merge(templates_of_config(place));
  }
  if (templates.empty()) return std::nullopt;
  if (!templates.contains("default")) {
    throw Error(folder, "has chat templates but none named \"default\"", "add a chat_template.jinja");
  }
  auto parts = std::make_unique<Parts>();
  parts->folder = folder;
  parts->options = options;
  parts->reads_clock = std::any_of(templates.begin(), templates.end(), [](const auto& entry) {
    return entry.second.find("strftime_now") != std::string::npos;
  });
  parts->start_frame = nlohmann::json{
      {"templates", templates},
      {"variables", special_variables(place)},
      {"now", options.now}}.dump();
  return ChatTemplate(std::move(parts));
}

ChatTemplate ChatTemplate::load(const std::string& folder, ChatOptions options) {
  auto found = find(folder, std::move(options));
  if (!found) {
    throw Error(folder, "has no chat template",
                "add a chat_template.jinja, or give prompts instead of messages");
  }
  return std::move(*found);
}

std::string ChatTemplate::render(const ChatRequest& chat) {
  if (!parts_->child) parts_->start();
  PythonChild::Answer answer = parts_->child->exchange(frame_of(chat), parts_->options.render);
  if (answer.status != PythonChild::Status::kAnswered) {
    parts_->child.reset();  // its next answer would be to this conversation
    const bool late = answer.status == PythonChild::Status::kTimedOut;
    throw TextError(
        "template_error",
        late ? "rendering the chat template took longer than " + seconds_text(parts_->options.render)
             : "rendering the chat template took more memory or time than is allowed");
  }
  const char kind = answer.payload.front();
  answer.payload.erase(0, 1);
  if (kind != 'T')
    throw TextError("template_error", "the chat template refuses these messages: " + answer.payload);
  return std::move(answer.payload);
}

bool ChatTemplate::reads_clock() const {
  return parts_->reads_clock;
}

}  // namespace nemo
