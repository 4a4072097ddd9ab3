// The child process: what it refuses, what it survives, what it cannot reach. Rendering itself:
// chat_template_golden_test.cpp.
#include "lib/text/chat_template.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "lib/text/text_error.h"
#include "tests/lib/text/temporary_folder.h"

namespace nemo {
namespace {

constexpr std::string_view kHello = R"([{"role": "user", "content": "hello"}])";

class ChatTemplateTest : public testing::Test {
 protected:
  ChatTemplate load(const std::string& text, ChatOptions options = {}) {
    folder_.write("tokenizer_config.json",
                  nlohmann::json{{"chat_template", text}, {"bos_token", "<s>"}}.dump());
    return ChatTemplate::load(folder_.path().string(), options);
  }

  std::string render(const std::string& text, std::string_view messages = kHello,
                     MessageStyle style = MessageStyle::kAsGiven) {
    ChatTemplate chat_template = load(text);
    return chat_template.render({messages, "", "", AddGenerationPrompt::kYes, style});
  }

  // The error's text; fails the test if there is none.
  static std::string refusal(ChatTemplate& chat_template, const ChatRequest& chat) {
    try {
      ADD_FAILURE() << "rendered: " << chat_template.render(chat).substr(0, 100);
    } catch (const TextError& error) {
      EXPECT_EQ(error.code(), "template_error");
      return error.what();
    }
    return {};
  }

  TemporaryFolder folder_;
};

TEST_F(ChatTemplateTest, FilesComeBeforeTheConfig) {
  EXPECT_FALSE(ChatTemplate::find(folder_.path().string()));
  EXPECT_THROW(ChatTemplate::load(folder_.path().string()), Error);
  EXPECT_EQ(render("config {{ bos_token }}"), "config <s>");
  folder_.write("chat_template.jinja", "file {{ bos_token }}");
  EXPECT_EQ(ChatTemplate::load(folder_.path().string()).render({kHello}), "file <s>");
}

TEST_F(ChatTemplateTest, ToolsPickTheTemplateNamedForThem) {
  const nlohmann::json named = {{{"name", "default"}, {"template", "plain"}},
                                {{"name", "tool_use"}, {"template", "{{ tools | length }} tools"}}};
  folder_.write("tokenizer_config.json", nlohmann::json{{"chat_template", named}}.dump());
  ChatTemplate chat_template = ChatTemplate::load(folder_.path().string());
  EXPECT_EQ(chat_template.render({kHello}), "plain");
  EXPECT_EQ(chat_template.render({kHello, R"([{"name": "f"}])"}), "1 tools");
}

TEST_F(ChatTemplateTest, KeysKeepTheirOrderAndNumbersTheirSpelling) {
  EXPECT_EQ(render("{{ messages | tojson }}", R"([{"z": 1.0, "a": 1, "m": {"y": 2, "b": 3}}])"),
            R"([{"z": 1.0, "a": 1, "m": {"y": 2, "b": 3}}])");
}

TEST_F(ChatTemplateTest, OpenAiMessagesBecomeWhatTemplatesExpect) {
  const std::string text =
      "{% for m in messages %}{{ m.content is defined and m.content is string }} {{ m.content }}|"
      "{% for c in m.tool_calls %}{{ c.function.arguments.x }}{% endfor %}{% endfor %}";
  const std::string messages =
      R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {"role": "assistant", "content": null,
     "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\": 7}"}}]}])";
  EXPECT_EQ(render(text, messages, MessageStyle::kOpenAi), "True a\nb|False |7");
  ChatTemplate chat_template = load(text);
  const std::string image = R"([{"role": "user", "content": [{"type": "image_url"}]}])";
  const std::string why =
      refusal(chat_template, {image, "", "", AddGenerationPrompt::kYes, MessageStyle::kOpenAi});
  EXPECT_NE(why.find("image_url"), std::string::npos) << why;
}

TEST_F(ChatTemplateTest, BadConversationsAreRefusedAndTheNextIsRendered) {
  ChatTemplate chat_template = load(
      "{% if messages[0].role != 'user' %}{{ raise_exception('no user') }}{% endif %}{{ "
      "messages[0].content.a.b }}");
  EXPECT_NE(refusal(chat_template, {R"([{"role": "x"}])"}).find("no user"), std::string::npos);
  EXPECT_NE(refusal(chat_template, {R"([{"role": "user"}])"}).find("no attribute 'content'"),
            std::string::npos);
  EXPECT_NE(refusal(chat_template, {"[]"}).find("at least one"), std::string::npos);
  EXPECT_NE(refusal(chat_template, {"[1]"}).find("object"), std::string::npos);
  EXPECT_NE(refusal(chat_template, {"{}"}).find("list"), std::string::npos);
  EXPECT_NE(refusal(chat_template, {"[{"}).find("JSONDecodeError"), std::string::npos);
  EXPECT_NE(refusal(chat_template, {kHello, "{}"}).find("tools"), std::string::npos);
  EXPECT_NE(refusal(chat_template, {kHello, "", R"({"messages": []})"}).find("'messages'"),
            std::string::npos);
  EXPECT_EQ(chat_template.render({R"([{"role": "user", "content": {"a": {"b": "fine"}}}])"}), "fine");
}

TEST_F(ChatTemplateTest, ALoopWithoutEndMissesItsDeadlineAndTheNextIsRendered) {
  ChatOptions options;
  options.render = std::chrono::milliseconds(2000);
  ChatTemplate chat_template = load(
      "{% if messages | length > 1 %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% "
      "endfor %}{% endif %}ok",
      options);
  for (int i = 0; i < 2; ++i) {
    EXPECT_NE(refusal(chat_template, {"[{}, {}]"}).find("longer than 2 s"), std::string::npos);
    EXPECT_EQ(chat_template.render({"[{}]"}), "ok");
  }
}

TEST_F(ChatTemplateTest, MemoryIsBounded) {
  ChatTemplate chat_template =
      load("{% if messages | length > 1 %}{{ ('a' * 9999999999) | length }}{% endif %}ok");
  const std::string why = refusal(chat_template, {"[{}, {}]"});
  EXPECT_NE(why.find("emory"), std::string::npos) << why;
  EXPECT_EQ(chat_template.render({"[{}]"}), "ok");
}

TEST_F(ChatTemplateTest, LargeConversationsPass) {
  const std::string content(8 << 20, 'x');
  EXPECT_EQ(render("{{ messages[0].content }}", R"([{"content": ")" + content + "\"}]"), content);
}

TEST_F(ChatTemplateTest, TheSandboxHolds) {
  for (const char* text : {"{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}",
                           "{{ namespace(__class__=1) }}", "{{ raise_exception.__globals__.sys }}",
                           "{% include '/etc/passwd' %}", "{% set ns = namespace() %}{% set ns._x = 1 %}",
                           "{{ '{0.__class__.__mro__}'.format(messages) }}", "{{ dict.__subclasses__() }}"}) {
    ChatTemplate chat_template = load(text);
    EXPECT_NE(refusal(chat_template, {kHello}), "") << text;
  }
}

TEST_F(ChatTemplateTest, ABrokenTemplateIsAnErrorOfTheJob) {
  ChatTemplate chat_template = load("line one\n{% if %}");
  try {
    chat_template.render({kHello});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(folder_.path().string()), std::string::npos) << error.what();
  }
}

class WithPython : public ChatTemplateTest {
 protected:
  void SetUp() override { unsetenv("NEMO_PYTHON"); }
  void TearDown() override { unsetenv("NEMO_PYTHON"); }

  std::string error_with(const std::string& python) {
    setenv("NEMO_PYTHON", python.c_str(), 1);
    ChatTemplate chat_template = load("x");
    try {
      chat_template.render({kHello});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  std::string script(const std::string& text) {
    const std::string path = folder_.write("python3", "#!/bin/sh\n" + text + "\n");
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }
};

TEST_F(WithPython, AMissingPythonOrJinjaNamesTheRemedy) {
  EXPECT_NE(error_with("/nowhere/python3").find("apt-get install python3-jinja2"), std::string::npos);
  // -S hides the folder that jinja2 lies in.
  const std::string without = error_with(script("shift; exec /usr/bin/python3 -I -S \"$@\""));
  EXPECT_NE(without.find("apt-get install python3-jinja2"), std::string::npos) << without;
  const std::string ended = error_with(script("exit 3"));
  EXPECT_NE(ended.find("ended while starting"), std::string::npos) << ended;
}

TEST_F(WithPython, AStartThatHangsMissesItsDeadline) {
  setenv("NEMO_PYTHON", script("exec sleep 100").c_str(), 1);
  ChatOptions options;
  options.start = std::chrono::milliseconds(300);
  ChatTemplate chat_template = load("x", options);
  EXPECT_THROW(chat_template.render({kHello}), Error);
}

TEST_F(ChatTemplateTest, KnowsWhetherItReadsTheClock) {
  EXPECT_FALSE(load("x").reads_clock());
  ChatOptions options;
  options.now = "2001-02-03T04:05:06";
  ChatTemplate chat_template = load("{{ strftime_now('%Y %H') }}", options);
  EXPECT_TRUE(chat_template.reads_clock());
  EXPECT_EQ(chat_template.render({kHello}), "2001 04");
}

}  // namespace
}  // namespace nemo
