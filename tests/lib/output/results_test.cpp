#include "lib/output/results.h"

#include <gtest/gtest.h>
#include <hdf5/serial/hdf5.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/lib/output/support.h"

namespace nemo {
namespace {

using nlohmann::json;
using test::error_of;
using test::read_file;
using test::RecordMaker;
using test::TempFolder;

const Identity kIdentity = {{"job", "7f"}, {"model", "aa"}};

ResultOptions options_for(const ResultColumns& columns) {
  return {.columns = columns, .fingerprints = kIdentity, .model = "tiny", .token_bytes = {}};
}

std::vector<std::unique_ptr<ResultWriter>> both_writers(const std::string& folder,
                                                        const ResultOptions& options) {
  std::vector<std::unique_ptr<ResultWriter>> writers;
  writers.push_back(make_jsonl_writer(folder + "/results.jsonl", options));
  writers.push_back(make_hdf5_writer(folder + "/results.h5", options));
  return writers;
}

// Journals the records in the order given and makes both files in `folder`, as a job would.
ResultTotals run(const std::string& folder, const std::vector<Record>& records, const JobConfig& job,
                 JournalOptions journal_options = {}) {
  JournalWriter journal = JournalWriter::open(folder + "/journal", kIdentity, Fresh::kNo, journal_options);
  for (const Record& record : records) journal.append(record);
  journal.commit();
  JournalReader reader = journal.reader();
  const auto writers = both_writers(folder, options_for(ResultColumns::of(job, journal.index())));
  return write_results(reader, static_cast<int64_t>(records.size()), writers);
}

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

// The line that a file with these columns has for one record.
std::string line_for(const Record& record, const ResultOptions& options) {
  const TempFolder folder;
  const auto writer = make_jsonl_writer(folder / "x.jsonl", options);
  writer->add(record);
  writer->publish();
  return lines_of(folder / "x.jsonl").at(0);
}

Record small_record() {
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

std::vector<Record> generated(int64_t count, int64_t num_outputs, int64_t top_k) {
  RecordMaker make(11);
  std::vector<Record> records;
  for (int64_t i = 0; i < count; ++i) {
    records.push_back(make.up_to(9) == 0 ? make.failed(i) : make.generated(i, num_outputs, top_k));
  }
  return records;
}

TEST(Results, DoNotDependOnTheOrderOfCompletion) {
  const TempFolder first, second;
  std::vector<Record> records = generated(500, 2, 3);
  run(first.path(), records, {});
  std::mt19937 random(5);
  std::shuffle(records.begin(), records.end(), random);
  run(second.path(), records, {}, {.segment_bytes = 20000});
  EXPECT_EQ(read_file(first / "results.jsonl"), read_file(second / "results.jsonl"));
  EXPECT_EQ(read_file(first / "results.h5"), read_file(second / "results.h5"));
  EXPECT_FALSE(std::filesystem::exists(first / "results.jsonl.partial"));
  EXPECT_FALSE(std::filesystem::exists(first / "results.h5.partial"));
}

TEST(Results, TotalsAreCounted) {
  const TempFolder folder;
  RecordMaker make(1);
  std::vector<Record> records = {make.failed(0), small_record()};
  records[1].index = 1;
  EXPECT_EQ(run(folder.path(), records, {}), (ResultTotals{2, 1, 1, 5, 2, 5 + 2}));
}

// What recomputed_tokens of the manifest is measured against.
TEST(Results, CountWhatAnUndisturbedRunComputes) {
  Record generated, scored, failed;
  generated.num_prompt_tokens = 5;
  generated.outputs = {{.token_ids = {1, 2, 3}}, {.token_ids = {4}}, {}};  // the last one was never run
  scored.index = 1;
  scored.num_prompt_tokens = 2;
  scored.score = Score{.token_ids = {7, 8, 9}, .logprobs = {-1, -1, -1}};
  failed.index = 2;
  failed.num_prompt_tokens = 100;
  failed.error = RequestError{"prompt_too_long", "too long"};
  const TempFolder folder;
  EXPECT_EQ(run(folder.path(), {generated, scored, failed}, {}).needed_tokens, (5 + 3 + 5 + 1) + (4 + 3));
}

TEST(Results, AMissingRequestLeavesNothing) {
  const TempFolder folder;
  JournalWriter journal = JournalWriter::open(folder / "journal", kIdentity, Fresh::kNo);
  journal.append(RecordMaker(1).generated(0));
  journal.commit();
  JournalReader reader = journal.reader();
  const std::string error =
      error_of([&] { write_results(reader, 2, both_writers(folder.path(), options_for({}))); });
  EXPECT_NE(error.find("request 1 is not done"), std::string::npos) << error;
  for (const char* name : {"results.jsonl", "results.jsonl.partial", "results.h5", "results.h5.partial"}) {
    EXPECT_FALSE(std::filesystem::exists(folder / name)) << name;
  }
}

TEST(ResultColumns, AreWhatTheJobOrAnyLineAskedFor) {
  JournalIndex index;
  JobConfig job;
  EXPECT_FALSE(ResultColumns::of(job, index).logprobs);
  job.sampling.logprobs = 2;
  job.sampling.n = 3;
  ResultColumns columns = ResultColumns::of(job, index);
  EXPECT_TRUE(columns.logprobs && columns.several_outputs && !columns.metadata);
  EXPECT_EQ(columns.top_k, 2);
  index.insert(0, {1, 100}, {.has_metadata = true, .top_k = 5});
  columns = ResultColumns::of(job, index);
  EXPECT_TRUE(columns.metadata);
  EXPECT_EQ(columns.top_k, 5);
}

TEST(Jsonl, FlatLine) {
  EXPECT_EQ(
      line_for(small_record(), options_for({})),
      R"({"id":"three","index":3,"text":"In the\n\"beginning\"","token_ids":[10,11],"finish_reason":"stop",)"
      R"("num_prompt_tokens":5,"num_tokens":2,"error":null})");
  Record with_metadata = small_record();
  with_metadata.metadata_json = "{\"b\": 1,\n \"a\": [\"x\"]}";
  EXPECT_EQ(
      line_for(with_metadata, options_for({.logprobs = true, .top_k = 2, .metadata = true})),
      R"({"id":"three","index":3,"text":"In the\n\"beginning\"","token_ids":[10,11],"finish_reason":"stop",)"
      R"("num_prompt_tokens":5,"num_tokens":2,"logprobs":[-0.1,-1.0],)"
      R"("top_logprobs":[[{"token_id":10,"logprob":-0.1},{"token_id":12,"logprob":-3.5e-07}],)"
      R"([{"token_id":13,"logprob":-1e+20}]],"error":null,"metadata":{"b": 1,  "a": ["x"]}})");
}

TEST(Jsonl, SeveralOutputs) {
  Record record = small_record();
  record.outputs.push_back({.text = "b", .token_ids = {9}, .finish_reason = "length"});
  EXPECT_EQ(line_for(record, options_for({.logprobs = true, .several_outputs = true})),
            R"({"id":"three","index":3,"num_prompt_tokens":5,"outputs":[{"text":"In the\n\"beginning\"",)"
            R"("token_ids":[10,11],"finish_reason":"stop","num_tokens":2,"logprobs":[-0.1,-1.0]},)"
            R"({"text":"b","token_ids":[9],"finish_reason":"length","num_tokens":1,)"
            R"("logprobs":null}],"error":null})");
}

TEST(Jsonl, ErrorsHaveAllColumns) {
  const Record failed = RecordMaker(1).failed(4);
  EXPECT_EQ(
      line_for(failed, options_for({.logprobs = true, .top_k = 1, .metadata = true})),
      R"({"id":"id-4","index":4,"text":null,"token_ids":null,"finish_reason":null,"num_prompt_tokens":0,)"
      R"("num_tokens":null,"logprobs":null,"top_logprobs":null,"error":{"code":"prompt_too_long",)"
      R"("message":"the prompt has 9 tokens, \"8\" fit"},"metadata":null})");
  EXPECT_EQ(
      line_for(failed, options_for({.task = Task::kScore})),
      R"({"id":"id-4","index":4,"sum_logprob":null,"is_greedy":null,"num_prompt_tokens":0,"num_tokens":null,)"
      R"("token_ids":null,"logprobs":null,"error":{"code":"prompt_too_long",)"
      R"("message":"the prompt has 9 tokens, \"8\" fit"}})");
}

TEST(Jsonl, ScoreLine) {
  Record record;
  record.id = "0";
  record.task = Task::kScore;
  record.num_prompt_tokens = 7;
  record.score = Score{-1.25, false, {4, 5}, {-1.0f, -std::numeric_limits<float>::infinity()}};
  EXPECT_EQ(
      line_for(record, options_for({.task = Task::kScore})),
      R"({"id":"0","index":0,"sum_logprob":-1.25,"is_greedy":false,"num_prompt_tokens":7,"num_tokens":2,)"
      R"("token_ids":[4,5],"logprobs":[-1.0,null],"error":null})");
}

TEST(Jsonl, EveryLineHasTheSameColumnsAndEveryFloatComesBack) {
  const TempFolder folder;
  const auto records = generated(300, 1, 2);
  run(folder.path(), records, {});
  const auto lines = lines_of(folder / "results.jsonl");
  ASSERT_EQ(lines.size(), records.size());
  const auto keys_of = [](const json& line) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : line.items()) keys.push_back(key);
    return keys;
  };
  for (size_t i = 0; i < lines.size(); ++i) {
    const json line = json::parse(lines[i]);
    EXPECT_EQ(keys_of(line), keys_of(json::parse(lines[0])));
    EXPECT_EQ(line["index"], i);
    if (records[i].error) continue;
    EXPECT_EQ(line["text"], records[i].outputs[0].text);
    EXPECT_EQ(line["logprobs"].get<std::vector<float>>(), records[i].outputs[0].logprobs);
  }
}

TEST(Jsonl, InvalidUtf8IsReplaced) {
  Record record = small_record();
  record.outputs[0].text = "a\xC3(\xED\xA0\x80 \xF0\x9F\x98";
  const json line = json::parse(line_for(record, options_for({})));
  EXPECT_EQ(line["text"], "a\uFFFD(\uFFFD\uFFFD\uFFFD \uFFFD\uFFFD\uFFFD");
}

TEST(Jsonl, OpenAiChat) {
  Record record = small_record();
  record.form = LineForm::kOpenAiChat;
  ResultOptions options = options_for({});
  EXPECT_EQ(json::parse(line_for(record, options)), json::parse(R"({
    "id": "batch_req_000000000003", "custom_id": "three", "error": null, "response": {"status_code": 200,
      "request_id": "req_000000000003", "body": {"id": "chatcmpl-000000000003", "object": "chat.completion",
        "created": 0, "model": "tiny", "choices": [{"index": 0, "finish_reason": "stop",
          "message": {"role": "assistant", "content": "In the\n\"beginning\"", "refusal": null},
          "logprobs": {"refusal": null, "content": [
            {"token": "token_id:10", "logprob": -0.1, "bytes": null, "top_logprobs": [
              {"token": "token_id:10", "logprob": -0.1, "bytes": null},
              {"token": "token_id:12", "logprob": -3.5e-7, "bytes": null}]},
            {"token": "token_id:11", "logprob": -1.0, "bytes": null, "top_logprobs": [
              {"token": "token_id:13", "logprob": -1e20, "bytes": null}]}]}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}}})"));
  options.token_bytes = [](int32_t) { return std::string("\xC3"); };  // half a character
  const json token =
      json::parse(line_for(record, options))["response"]["body"]["choices"][0]["logprobs"]["content"][0];
  EXPECT_EQ(token["token"], "\uFFFD");
  EXPECT_EQ(token["bytes"], json::parse("[195]"));
}

TEST(Jsonl, OpenAiCompletion) {
  Record record = small_record();
  record.form = LineForm::kOpenAiCompletion;
  ResultOptions options = options_for({});
  options.token_bytes = [](int32_t id) { return id == 10 ? std::string("é ") : "t" + std::to_string(id); };
  const json body = json::parse(line_for(record, options))["response"]["body"];
  EXPECT_EQ(body["id"], "cmpl-000000000003");
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"],
            json::parse(R"([{"index": 0, "text": "In the\n\"beginning\"", "finish_reason": "stop",
    "logprobs": {"tokens": ["é ", "t11"], "token_logprobs": [-0.1, -1.0], "text_offset": [0, 2],
                 "top_logprobs": [{"é ": -0.1, "t12": -3.5e-7}, {"t13": -1e20}]}}])"));
  record.outputs[0].logprobs.clear();
  record.outputs[0].top_logprobs.clear();
  EXPECT_EQ(json::parse(line_for(record, options))["response"]["body"]["choices"][0]["logprobs"], json());
}

TEST(Jsonl, OpenAiError) {
  Record record = RecordMaker(1).failed(12);
  record.form = LineForm::kOpenAiChat;
  EXPECT_EQ(line_for(record, options_for({})),
            R"({"id":"batch_req_000000000012","custom_id":"id-12","response":null,)"
            R"("error":{"code":"prompt_too_long","message":"the prompt has 9 tokens, \"8\" fit"}})");
}

class H5 {
 public:
  explicit H5(const std::string& path) : file_(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)) {}
  H5(const H5&) = delete;
  H5& operator=(const H5&) = delete;
  ~H5() { H5Fclose(file_); }

  template <class T>
  std::vector<T> read(const std::string& name, hid_t type) const {
    const hid_t dataset = H5Dopen2(file_, name.c_str(), H5P_DEFAULT);
    if (dataset < 0) throw Error("no " + name);
    const hid_t space = H5Dget_space(dataset);
    std::vector<T> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
    if (!values.empty()) H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Sclose(space);
    H5Dclose(dataset);
    return values;
  }
  std::vector<std::string> texts(const std::string& name) const {
    const auto data = read<uint8_t>(name + "/data", H5T_NATIVE_UINT8);
    const auto offsets = read<int64_t>(name + "/offsets", H5T_NATIVE_INT64);
    std::vector<std::string> texts;
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      texts.emplace_back(data.begin() + offsets[i], data.begin() + offsets[i + 1]);
    }
    return texts;
  }
  bool has(const std::string& name) const { return H5Lexists(file_, name.c_str(), H5P_DEFAULT) > 0; }

 private:
  hid_t file_;
};

TEST(Hdf5, GeneratedRecordsComeBack) {
  const TempFolder folder;
  const auto records = generated(400, 2, 3);
  run(folder.path(), records, {});
  const H5 file(folder / "results.h5");
  const auto request = file.read<int64_t>("/index/request", H5T_NATIVE_INT64);
  const auto sample = file.read<int32_t>("/index/sample", H5T_NATIVE_INT32);
  const auto finish = file.read<uint8_t>("/index/finish_reason", H5T_NATIVE_UINT8);
  const auto tokens = file.read<int32_t>("/tokens/data", H5T_NATIVE_INT32);
  const auto offsets = file.read<int64_t>("/tokens/offsets", H5T_NATIVE_INT64);
  const auto logprobs = file.read<float>("/logprobs/data", H5T_NATIVE_FLOAT);
  const auto top_ids = file.read<int32_t>("/topk/ids", H5T_NATIVE_INT32);
  const auto top_logprobs = file.read<float>("/topk/logprobs", H5T_NATIVE_FLOAT);
  const auto texts = file.texts("/text"), ids = file.texts("/index/id"),
             codes = file.texts("/index/error_code");
  const auto metadata = file.texts("/index/metadata");
  ASSERT_EQ(top_ids.size(), tokens.size() * 3);
  ASSERT_EQ(offsets.size(), request.size() + 1);
  for (size_t row = 0; row < request.size(); ++row) {
    const Record& record = records[static_cast<size_t>(request[row])];
    EXPECT_EQ(ids[row], record.id);
    EXPECT_EQ(metadata[row], record.metadata_json);
    EXPECT_EQ(codes[row], record.error ? record.error->code : "");
    if (record.error) {
      EXPECT_EQ(finish[row], 3);
      continue;
    }
    const Output& output = record.outputs[static_cast<size_t>(sample[row])];
    EXPECT_EQ(finish[row], output.finish_reason == "stop" ? 1 : 2);
    EXPECT_EQ(texts[row], output.text);
    ASSERT_EQ(offsets[row + 1] - offsets[row], static_cast<int64_t>(output.token_ids.size()));
    for (size_t t = 0; t < output.token_ids.size(); ++t) {
      const auto at = static_cast<size_t>(offsets[row]) + t;
      EXPECT_EQ(tokens[at], output.token_ids[t]);
      EXPECT_EQ(logprobs[at], output.logprobs[t]);
      for (size_t k = 0; k < 3; ++k) {
        EXPECT_EQ(top_ids[at * 3 + k], output.top_logprobs[t][k].token_id);
        EXPECT_EQ(top_logprobs[at * 3 + k], output.top_logprobs[t][k].logprob);
      }
    }
  }
}

TEST(Hdf5, ColumnsNotAskedForAreNotThere) {
  const TempFolder folder;
  run(folder.path(), generated(3, 1, 0), {});
  const H5 file(folder / "results.h5");
  for (const char* name : {"/logprobs", "/topk", "/index/sum_logprob"}) EXPECT_FALSE(file.has(name)) << name;
}

TEST(Hdf5, ScoresComeBackAndMissingTopIsMarked) {
  const TempFolder folder;
  RecordMaker make(4);
  JobConfig job;
  job.task = Task::kScore;
  const std::vector<Record> records = {make.scored(0), make.failed(1), make.scored(2)};
  run(folder.path(), records, job);
  const H5 file(folder / "results.h5");
  const auto sums = file.read<double>("/index/sum_logprob", H5T_NATIVE_DOUBLE);
  EXPECT_EQ(sums[0], records[0].score->sum_logprob);
  EXPECT_TRUE(std::isnan(sums[1]));
  EXPECT_EQ(file.read<uint8_t>("/index/is_greedy", H5T_NATIVE_UINT8)[2], records[2].score->is_greedy);
  EXPECT_EQ(file.read<float>("/logprobs/offsets", H5T_NATIVE_FLOAT).back(),
            records[0].score->logprobs.size() + records[2].score->logprobs.size());

  Record plain = small_record();
  const auto writer = make_hdf5_writer(folder / "top.h5", options_for({.top_k = 2}));
  writer->add(plain);
  writer->publish();
  const H5 top(folder / "top.h5");
  EXPECT_EQ(top.read<int32_t>("/topk/ids", H5T_NATIVE_INT32), (std::vector<int32_t>{10, 12, 13, -1}));
  EXPECT_TRUE(std::isnan(top.read<float>("/topk/logprobs", H5T_NATIVE_FLOAT)[3]));
}

TEST(Hdf5, EmptyJobsAndLongValuesAreFine) {
  const TempFolder folder;
  run(folder.path(), {}, {});
  EXPECT_EQ(H5(folder / "results.h5").read<int64_t>("/tokens/offsets", H5T_NATIVE_INT64),
            std::vector<int64_t>{0});
  ResultOptions options = options_for({});
  options.fingerprints = {{"job", std::string(100000, 'x')}, {"empty", ""}};
  make_hdf5_writer(folder / "long.h5", options)->publish();
}

// More than one chunk in every column, and one list longer than a chunk.
TEST(Hdf5, ManyChunks) {
  const TempFolder folder;
  std::vector<Record> records;
  for (int64_t i = 0; i < 20000; ++i) {
    Record& record = records.emplace_back();
    record.index = i;
    record.outputs.resize(1);
    record.outputs[0].token_ids.assign(i == 77 ? 200000 : 5, static_cast<int32_t>(i));
  }
  run(folder.path(), records, {});
  const H5 file(folder / "results.h5");
  const auto tokens = file.read<int32_t>("/tokens/data", H5T_NATIVE_INT32);
  const auto offsets = file.read<int64_t>("/tokens/offsets", H5T_NATIVE_INT64);
  ASSERT_EQ(tokens.size(), 200000u + 19999 * 5);
  ASSERT_EQ(offsets.size(), 20001u);
  for (size_t row = 0; row < 20000; ++row) {
    ASSERT_EQ(tokens[static_cast<size_t>(offsets[row])], static_cast<int32_t>(row));
    ASSERT_EQ(tokens[static_cast<size_t>(offsets[row + 1]) - 1], static_cast<int32_t>(row));
  }
}

TEST(Hdf5, UnwritablePathIsAnErrorWithTheReason) {
  const std::string error = error_of([] { make_hdf5_writer("/nonexistent/results.h5", options_for({})); });
  EXPECT_NE(error.find("/nonexistent/results.h5.partial"), std::string::npos) << error;
  EXPECT_NE(error.find("No such file or directory"), std::string::npos) << error;
}

// A limit on the size stands for a full disk. The process must end in order: HDF5 is left with a file it
// cannot close.
TEST(Hdf5, FullDiskIsAnErrorSilentOnStderrAndEndsInOrder) {
  const TempFolder folder;
  const auto records = generated(20000, 1, 2);
  const std::string messages = folder / "stderr";
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    if (freopen(messages.c_str(), "w", stderr) == nullptr) _exit(1);
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{300000, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error = error_of([&] {
      const auto writer =
          make_hdf5_writer(folder / "results.h5", options_for({.logprobs = true, .top_k = 2}));
      for (const Record& record : records) writer->add(record);
      writer->publish();
    });
    if (error.find("results.h5.partial: cannot write: File too large") == std::string::npos) {
      fprintf(stderr, "%s\n", error.c_str());
      _exit(2);
    }
    const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &none);
    make_hdf5_writer(folder / "next.h5", options_for({}))->publish();  // HDF5 is still of use
    exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_file(messages), "");
  EXPECT_FALSE(std::filesystem::exists(folder / "results.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder / "results.h5.partial"));
}

TEST(Hdf5, PythonReadsIt) {
  const std::string python = "/usr/bin/python3";
  if (system((python + " -c 'import h5py' 2>/dev/null").c_str()) != 0) GTEST_SKIP() << "no h5py here";
  const TempFolder folder;
  run(folder.path(), generated(100, 2, 3), {});
  const std::string script = std::string(NEMO_SOURCE_DIR) + "/tests/lib/output/read_results.py";
  EXPECT_EQ(system((python + " '" + script + "' '" + folder.path() + "'").c_str()), 0);
}

}  // namespace
}  // namespace nemo
