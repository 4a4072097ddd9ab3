// tokenizer_config.json, and, after a zero byte each, chat_template.jinja (absent if empty), the name of an
// additional template and its text. Only the reading: chat_template_fuzz.cpp renders.
#include "lib/text/chat_template.h"
#include "tests/fuzz/fuzzing.h"

namespace {

// A name that a folder can have, so that the fuzzer writes nowhere else.
std::string file_name_of(std::string name) {
  name = name.substr(0, 100);
  for (char& c : name) {
    if (c == '/') c = '_';
  }
  return name + ".jinja";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nemo;
  namespace fs = std::filesystem;
  static const fuzz::Folder folder;
  const std::vector<std::string> parts = fuzz::split(fuzz::text_of(data, size), 4);
  folder.write("tokenizer_config.json", parts[0]);
  fs::remove(folder.path() + "/chat_template.jinja");
  if (!parts[1].empty()) folder.write("chat_template.jinja", parts[1]);
  const std::string additional = folder.path() + "/additional_chat_templates";
  fs::remove_all(additional);
  if (!parts[2].empty()) {
    fs::create_directory(additional);
    folder.write("additional_chat_templates/" + file_name_of(parts[2]), parts[3]);
  }
  fuzz::accepts([] {
    const auto found = ChatTemplate::find(folder.path());
    if (found) (void)found->reads_clock();
  });
  return 0;
}
