// The results: `results.jsonl` and `results.h5`, made from the journal in input order when every request is
// done, written under a temporary name and renamed into place. Their bytes depend on the records, the columns
// asked for and the fingerprints only; never on the order of completion, on time or on crashes.
//
// results.jsonl, one line a request. Every line of one form has the same columns (null, not missing), so that
// the file loads as one table:
//   generate  {"id", "index", "text", "token_ids", "finish_reason", "num_prompt_tokens", "num_tokens",
//              ["logprobs", ["top_logprobs"]], "error", ["metadata"]}
//             If any request has more than one sample, all lines carry
//              "outputs": [{"text", "token_ids", "finish_reason", "num_tokens", ["logprobs", ...]}, ...]
//             in place of these five columns, in the order of the samples.
//   score     {"id", "index", "sum_logprob", "is_greedy", "num_prompt_tokens", "num_tokens", "token_ids",
//   "logprobs",
//              "error", ["metadata"]}
//   OpenAI    a line of OpenAI batch input has OpenAI's batch response form: {"id", "custom_id", "response",
//   "error"}.
// `error` is null or {"code", "message"}. Columns in [] are there if ResultColumns says so. Floats are the
// shortest decimals that give the same float32 (sum_logprob: float64) back; NaN and infinities, which JSON
// lacks, are null.
//
// results.h5, one row an output (a request without one, because of an error, has one row); an array of
// strings or lists is a flat `data` and `offsets` with one more entry than rows: row r is data[offsets[r] :
// offsets[r + 1]].
//   /tokens/data int32, /tokens/offsets int64; likewise /text (uint8, UTF-8) and, if asked for, /logprobs
//   (float32) /topk/ids int32 [T, k], /topk/logprobs float32 [T, k]   if asked for; T = all tokens, aligned
//   with /tokens/data;
//                                                           -1 and NaN where there is none
//   /index/request int64, sample int32, finish_reason uint8 (attribute `values` names them),
//   num_prompt_tokens int64, num_tokens int64, id, error_code, error_message, metadata (each data and
//   offsets); score: sum_logprob float64, is_greedy uint8 attributes of /: schema_version, task,
//   fingerprint:<name> for every item of the journal's identity
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lib/config/job_config.h"
#include "lib/output/journal.h"
#include "lib/request/request.h"

namespace nemo {

/// Which optional columns the results have.
struct ResultColumns {
  Task task = Task::kGenerate;
  bool logprobs = false;
  int64_t top_k = 0;  ///< entries of top_logprobs a token; 0 = no such column
  bool several_outputs = false;
  bool metadata = false;

  /// What the job asks for and what single lines of it asked for beyond that.
  static ResultColumns of(const JobConfig& job, const JournalIndex& index);
};

/// What the writers need beyond the records.
struct ResultOptions {
  ResultColumns columns;
  Identity fingerprints;  ///< written as attributes of results.h5; values of more than 4 KiB by their hash
  std::string model;      ///< `model` of OpenAI bodies
  /// The bytes of one token, for OpenAI logprobs. Without it tokens are named "token_id:<id>".
  std::function<std::string(int32_t)> token_bytes;
};

/// One results file under construction. An unfinished one leaves nothing behind.
class ResultWriter {
 public:
  virtual ~ResultWriter() = default;
  /// Records come in input order. Throws Error.
  virtual void add(const Record& record) = 0;
  /// Makes the file durable and renames it into place. Call once, last. Throws Error.
  virtual void publish() = 0;
};

/// `path` is the final name. Memory is bounded: a fixed buffer and one record.
std::unique_ptr<ResultWriter> make_jsonl_writer(const std::string& path, const ResultOptions& options);
/// Memory is bounded: one chunk of at most 256 KiB for each column (512 KiB for /topk) and one record. HDF5's
/// own messages stay off stderr and come as the text of the Error.
std::unique_ptr<ResultWriter> make_hdf5_writer(const std::string& path, const ResultOptions& options);

/// What went into the results; part of the manifest.
struct ResultTotals {
  int64_t requests = 0;
  int64_t errors = 0;
  int64_t outputs = 0;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;  ///< score: the scored tokens
  int64_t needed_tokens = 0;  ///< rows of prompts and tokens drawn or scored in an undisturbed run
  bool operator==(const ResultTotals&) const = default;
};

/// Gives the records of requests 0 .. num_requests - 1 to every writer, in order, then publishes all.
/// `max_context` is the model's, for counting the windows of long scored texts. Throws Error, with nothing
/// renamed, if a request is not done.
ResultTotals write_results(JournalReader& journal, int64_t num_requests,
                           const std::vector<std::unique_ptr<ResultWriter>>& writers,
                           int64_t max_context = INT64_MAX);

}  // namespace nemo
