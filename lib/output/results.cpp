#include "lib/output/results.h"

#include <algorithm>

#include "lib/sampling/score_windows.h"

namespace nemo {
namespace {

int64_t size_of(const std::vector<int32_t>& tokens) {
  return static_cast<int64_t>(tokens.size());
}

// Every sample has its prompt to itself; a request that drew nothing, or failed, was never run.
int64_t needed_tokens(const Record& record, int64_t max_context) {
  int64_t tokens = 0;
  for (const Output& output : record.outputs)
    if (!output.token_ids.empty()) tokens += record.num_prompt_tokens + size_of(output.token_ids);
  if (!record.score || record.score->token_ids.empty()) return tokens;
  const int64_t num_scored = size_of(record.score->token_ids);
  max_context = std::min(max_context, record.num_prompt_tokens + num_scored);  // it may be "no limit"
  for (const ScoreWindow& window : score_windows(record.num_prompt_tokens, num_scored, max_context))
    tokens += window.num_rows();
  return tokens + num_scored;
}

void count(ResultTotals& totals, const Record& record, int64_t max_context) {
  ++totals.requests;
  totals.errors += record.error.has_value();
  totals.outputs += static_cast<int64_t>(record.outputs.size());
  totals.prompt_tokens += record.num_prompt_tokens;
  for (const Output& output : record.outputs) totals.output_tokens += size_of(output.token_ids);
  if (record.score) totals.output_tokens += size_of(record.score->token_ids);
  totals.needed_tokens += needed_tokens(record, max_context);
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
                           const std::vector<std::unique_ptr<ResultWriter>>& writers, int64_t max_context) {
  ResultTotals totals;
  for (int64_t index = 0; index < num_requests; ++index) {
    const Record record = journal.read(index);
    for (const auto& writer : writers) writer->add(record);
    count(totals, record, max_context);
  }
  for (const auto& writer : writers) writer->publish();
  return totals;
}

}  // namespace nemo
