#include "lib/output/results.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/lib/output/results_fixtures.h"

namespace nemo {
namespace {

using nlohmann::json;
using namespace test;

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
  JournalWriter journal = JournalWriter::open(folder / "journal", kResultIdentity, Fresh::kNo);
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

}  // namespace
}  // namespace nemo
