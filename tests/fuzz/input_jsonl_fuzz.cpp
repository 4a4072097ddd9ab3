// A whole input file, plain or gzip, to requests: every non-empty line gives one, or a record with an error.
#include "lib/request/serialize.h"
#include "lib/text/prompt_source.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/lib/text/toy_tokenizer.h"

namespace {

using namespace nemo;

constexpr int64_t kMaxContext = 64;

void check(const Request& request) {
  const auto size = static_cast<int64_t>(request.prompt_ids.size());
  fuzz::require(size > 0 && size <= kMaxContext, "a prompt has tokens, as many as fit");
  fuzz::require(to_bytes(request_from_bytes(to_bytes(request))) == to_bytes(request), "a request can travel");
}
void check(const Record& record) {
  fuzz::require(record.error.has_value(), "a record made of a line has an error");
  fuzz::require(record_from_bytes(to_bytes(record)) == record, "a record can travel");
}

void read(const std::string& path, Task task) {
  static const Tokenizer tokenizer = tokenizer_of(toy_json({{"a", "b"}, {"ab", "c"}}, {"<s>", "</s>"}));
  const PromptSourceOptions options = {
      .paths = {path}, .task = task, .max_context = kMaxContext, .bos_id = 258};
  PromptSource source(options, tokenizer, nullptr);
  int64_t expected_index = 0;
  while (const auto prompt = source.next()) {
    std::visit(
        [&](const auto& value) {
          fuzz::require(value.index == expected_index, "indexes are dense");
          check(value);
        },
        *prompt);
    ++expected_index;
  }
  fuzz::require(source.num_lines() == expected_index, "lines are counted");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Folder folder;
  const std::string path = folder.write("input.jsonl", fuzz::text_of(data, size));
  for (const Task task : {Task::kGenerate, Task::kScore}) fuzz::accepts([&] { read(path, task); });
  return 0;
}
