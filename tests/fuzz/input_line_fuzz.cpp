// One line of input, for both tasks. parse_input_line never throws, and what it accepts is passed on verbatim
// into output lines, so that must be JSON and UTF-8.
#include "lib/config/sampling_limits.h"
#include "lib/text/input_line.h"
#include "lib/text/json_members.h"
#include "lib/text/utf8.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using namespace nemo;

void check_json(std::string_view text, std::string_view what) {
  fuzz::require(text.empty() || !find_json_fault(text), what);
}

void check(const InputLine& line) {
  check_json(line.metadata_json, "metadata is JSON");
  fuzz::require(!find_invalid_utf8(line.id), "an id is UTF-8");
  fuzz::require(!find_sampling_fault(line.sampling), "sampling values are in their limits");
  if (const auto* chat = std::get_if<PromptChat>(&line.content)) {
    fuzz::require(!chat->messages_json.empty(), "a chat has messages");
    check_json(chat->messages_json, "messages are JSON");
    check_json(chat->tools_json, "tools are JSON");
    check_json(chat->kwargs_json, "template variables are JSON");
  }
}

void check(const LineFault& fault) {
  fuzz::require(!fault.error.code.empty() && !fault.error.message.empty(),
                "a fault has a code and a message");
  fuzz::require(!find_invalid_utf8(fault.id) && !find_invalid_utf8(fault.error.message), "a fault is UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view line = fuzz::text_of(data, size);
  for (const Task task : {Task::kGenerate, Task::kScore}) {
    std::visit([](const auto& understood) { check(understood); }, parse_input_line(line, task, {}));
  }
  return 0;
}
