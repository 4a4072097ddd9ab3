// serial_job JOB.yaml OUT.jsonl [KEY=VALUE...]: answers every request of a job in this process, one after the
// other, with nemo::Generator, and writes what results.jsonl has to be: the oracle of whole jobs. Shares with
// the program what turns lines into requests and records into lines; has no ranks, batches, chunks, pages or
// schedule.
#include <filesystem>
#include <iostream>

#include "kernels/error.h"
#include "lib/config/job_config.h"
#include "lib/model/generator.h"
#include "lib/output/journal.h"
#include "lib/output/results.h"
#include "lib/text/chat_template.h"
#include "lib/text/prompt_source.h"

namespace nemo {
namespace {

PromptSource open_input(const JobConfig& job, const Generator& generator, ChatTemplate* chat_template) {
  PromptSourceOptions options{.paths = job.input_paths,
                              .task = job.task,
                              .sampling = job.sampling,
                              .max_context = generator.config().max_position_embeddings,
                              .bos_id = generator.config().bos_token_id};
  return {std::move(options), generator.tokenizer(), chat_template};
}

/// Answers all requests into the journal; returns how many there were.
int64_t answer_all(const JobConfig& job, Generator& generator, JournalWriter& journal) {
  auto chat_template = ChatTemplate::find(job.model_path);
  PromptSource source = open_input(job, generator, chat_template ? &*chat_template : nullptr);
  while (const auto prompt = source.next()) {
    if (const auto* record = std::get_if<Record>(&*prompt)) {
      journal.append(*record);
    } else {
      journal.append(generator.run(std::get<Request>(*prompt)));
    }
  }
  journal.commit();
  return source.num_lines();
}

void run(const std::string& job_path, const std::string& result_path,
         const std::vector<std::string>& overrides) {
  const JobConfig job = load_job_config(job_path, overrides);
  const auto dtype =
      job.dtype == ActivationType::kBFloat16 ? kernels::DType::kBFloat16 : kernels::DType::kFloat32;
  Generator generator =
      Generator::open(job.model_path, {.dtype = dtype, .threads = 1, .kv_format = kv_format(job)});
  // The columns depend on all records, and these need not fit into memory: so by way of a journal.
  const std::string folder = result_path + ".journal";
  auto journal = JournalWriter::open(folder, {{"job", "serial"}}, Fresh::kYes);
  const int64_t num_requests = answer_all(job, generator, journal);
  const ResultOptions options{
      .columns = ResultColumns::of(job, journal.index()),
      .fingerprints = journal.identity(),
      .model = generator.config().name,
      .token_bytes = [&](int32_t id) { return std::string(generator.tokenizer().token_bytes(id)); }};
  std::vector<std::unique_ptr<ResultWriter>> writers;
  writers.push_back(make_jsonl_writer(result_path, options));
  JournalReader reader = journal.reader();
  write_results(reader, num_requests, writers);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace nemo

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "serial_job JOB.yaml OUT.jsonl [KEY=VALUE...]\n";
    return 2;
  }
  try {
    nemo::run(argv[1], argv[2], {argv + 3, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "serial_job: " << error.what() << '\n';
    return 1;
  }
}
