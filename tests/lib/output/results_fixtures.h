// Results of records that are made up.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/output/results.h"
#include "tests/lib/output/support.h"

namespace nemo::test {

inline const Identity kResultIdentity = {{"job", "7f"}, {"model", "aa"}};

inline ResultOptions options_for(const ResultColumns& columns) {
  return {.columns = columns, .fingerprints = kResultIdentity, .model = "tiny", .token_bytes = {}};
}

inline std::vector<std::unique_ptr<ResultWriter>> both_writers(const std::string& folder,
                                                               const ResultOptions& options) {
  std::vector<std::unique_ptr<ResultWriter>> writers;
  writers.push_back(make_jsonl_writer(folder + "/results.jsonl", options));
  writers.push_back(make_hdf5_writer(folder + "/results.h5", options));
  return writers;
}

/// Journals the records in the order given and makes both files in `folder`, as a job would.
inline ResultTotals run(const std::string& folder, const std::vector<Record>& records, const JobConfig& job,
                        JournalOptions journal_options = {}) {
  JournalWriter journal =
      JournalWriter::open(folder + "/journal", kResultIdentity, Fresh::kNo, journal_options);
  for (const Record& record : records) journal.append(record);
  journal.commit();
  JournalReader reader = journal.reader();
  const auto writers = both_writers(folder, options_for(ResultColumns::of(job, journal.index())));
  return write_results(reader, static_cast<int64_t>(records.size()), writers);
}

inline Record small_record() {
  Record record;
  record.index = 3;
  record.id = "three";
  record.num_prompt_tokens = 5;
  record.outputs.push_back({.text = "In the\n\"beginning\"",
                            .token_ids = {10, 11},
                            .logprobs = {-0.1f, -1.0f},
                            .top_logprobs = {{{10, -0.1f}, {12, -3.5e-7f}}, {{13, -1e20f}}},
                            .finish_reason = "stop"});
  return record;
}

inline std::vector<Record> generated(int64_t count, int64_t num_outputs, int64_t top_k) {
  RecordMaker make(11);
  std::vector<Record> records;
  for (int64_t i = 0; i < count; ++i) {
    records.push_back(make.up_to(9) == 0 ? make.failed(i) : make.generated(i, num_outputs, top_k));
  }
  return records;
}

}  // namespace nemo::test
