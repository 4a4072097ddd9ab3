#include "lib/output/results.h"

#include <algorithm>

namespace nemo {
namespace {

void count(ResultTotals& totals, const Record& record) {
  ++totals.requests;
  totals.errors += record.error.has_value();
  totals.outputs += static_cast<int64_t>(record.outputs.size());
  totals.prompt_tokens += record.num_prompt_tokens;
  for (const Output& output : record.outputs)
    totals.output_tokens += static_cast<int64_t>(output.token_ids.size());
  if (record.score) totals.output_tokens += static_cast<int64_t>(record.score->token_ids.size());
}

}  // namespace

ResultColumns ResultColumns::of(const JobConfig& job, const JournalIndex& index) {
  const RecordTraits& found = index.traits();
  return {.task = job.task,
          .logprobs = job.task == Task::kScore || job.sampling.logprobs > 0 || found.has_logprobs,
          .top_k = job.task == Task::kScore ? 0 : std::max(job.sampling.logprobs, found.top_k),
          .several_outputs = job.sampling.n > 1 || found.has_several_outputs,
          .metadata = found.has_metadata};
}

ResultTotals write_results(JournalReader& journal, int64_t num_requests,
                           const std::vector<std::unique_ptr<ResultWriter>>& writers) {
  ResultTotals totals;
  for (int64_t index = 0; index < num_requests; ++index) {
    const Record record = journal.read(index);
    for (const auto& writer : writers) writer->add(record);
    count(totals, record);
  }
  for (const auto& writer : writers) writer->publish();
  return totals;
}

}  // namespace nemo
