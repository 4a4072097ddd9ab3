// Chats against texts frozen from the reference implementation; see tests/golden/README.md.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "lib/text/chat_template.h"
#include "lib/text/text_error.h"
#include "tests/lib/text/temporary_folder.h"

namespace nemo {
namespace {

using Json = nlohmann::ordered_json;  // the order of keys is part of the input

class Templates {
 public:
  explicit Templates(const Json& golden) : golden_(golden) {}

  ChatTemplate& get(const std::string& name) {
    const auto it = loaded_.find(name);
    if (it != loaded_.end()) return it->second;
    ChatOptions options;
    options.now = golden_.at("now").get<std::string>();
    std::string folder = NEMO_SOURCE_DIR "/configs/checkpoints/kjv-wordnet-7m";
    if (name != "checkpoint") {
      folder = (folder_.path() / name).string();
      std::filesystem::create_directory(folder);
      const Json config = {{"bos_token", golden_.at("bos_token")},
                           {"eos_token", golden_.at("eos_token")},
                           {"chat_template", golden_.at("templates").at(name)}};
      std::ofstream(folder + "/tokenizer_config.json") << config;
    }
    return loaded_.emplace(name, ChatTemplate::load(folder, options)).first->second;
  }

 private:
  const Json& golden_;
  TemporaryFolder folder_;
  std::map<std::string, ChatTemplate> loaded_;
};

std::string rendered(ChatTemplate& chat_template, const Json& test_case) {
  const std::string messages = test_case.at("messages").dump();
  const std::string tools = test_case.at("tools").dump();
  const std::string kwargs = test_case.at("kwargs").dump();
  return chat_template.render({messages, tools, kwargs,
                               test_case.at("add_generation_prompt").get<bool>() ? AddGenerationPrompt::kYes
                                                                                 : AddGenerationPrompt::kNo});
}

TEST(ChatTemplateGolden, EveryCaseIsAsTheReferenceRendersIt) {
  std::ifstream file(NEMO_SOURCE_DIR "/tests/golden/chat/cases.json");
  const Json golden = Json::parse(file);
  Templates templates(golden);
  ASSERT_GE(golden.at("cases").size(), 10U);
  for (const Json& test_case : golden.at("cases")) {
    SCOPED_TRACE(test_case.at("name").get<std::string>());
    ChatTemplate& chat_template = templates.get(test_case.at("template").get<std::string>());
    if (test_case.contains("error")) {
      try {
        rendered(chat_template, test_case);
        ADD_FAILURE() << "no error";
      } catch (const TextError& error) {
        EXPECT_EQ(error.code(), "template_error");
        EXPECT_NE(std::string(error.what()).find(test_case.at("error").get<std::string>()), std::string::npos)
            << error.what();
      }
    } else {
      EXPECT_EQ(rendered(chat_template, test_case), test_case.at("expected").get<std::string>());
    }
  }
}

}  // namespace
}  // namespace nemo
