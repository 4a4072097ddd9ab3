// Lines by table: what each form is read as, and what each fault is called.
#include "lib/text/input_line.h"

#include <gtest/gtest.h>

#include <deque>

namespace nemo {
namespace {

SamplingParams job_sampling() {
  SamplingParams sampling;
  sampling.max_tokens = 99;
  sampling.stop = {"job"};
  return sampling;
}

InputLine read(const std::string& line, Task task = Task::kGenerate) {
  static std::deque<std::string> kept;  // chats are views of their line
  auto result = parse_input_line(kept.emplace_back(line), task, job_sampling());
  if (const auto* fault = std::get_if<LineFault>(&result)) {
    ADD_FAILURE() << line << ": " << fault->error.message;
    return {};
  }
  return std::get<InputLine>(result);
}

TEST(InputLine, Prompt) {
  const InputLine line = read(R"({"id": "x", "prompt": "caf\u00e9 \n"})");
  EXPECT_EQ(line.id, "x");
  EXPECT_EQ(line.form, LineForm::kPlain);
  EXPECT_EQ(std::get<PromptText>(line.content).text, "caf\xC3\xA9 \n");
  EXPECT_EQ(line.sampling, job_sampling());
  EXPECT_EQ(line.metadata_json, "");
}

TEST(InputLine, IdsAreStringsOrIntegers) {
  EXPECT_EQ(read(R"({"id": 12345678901234567890, "prompt": ""})").id, "12345678901234567890");
  EXPECT_EQ(read(R"({"id": -3, "prompt": ""})").id, "-3");
  EXPECT_EQ(read(R"({"id": null, "prompt": ""})").id, "");
  EXPECT_EQ(read(R"({"prompt": ""})").id, "");
}

TEST(InputLine, TokenIds) {
  EXPECT_EQ(std::get<PromptIds>(read(R"({"token_ids": [ 1 , 2,30 ]})").content).ids,
            (std::vector<int32_t>{1, 2, 30}));
  EXPECT_EQ(std::get<PromptIds>(read(R"({"token_ids": []})").content).ids, (std::vector<int32_t>{}));
}

TEST(InputLine, MessagesAreKeptAsWritten) {
  const std::string text =
      R"({"messages": [{"z": 1.0, "a": "]}"}], "tools": [{"b": {}}], "chat_template_kwargs": {"k": "}"}})";
  const InputLine line = read(text);
  const auto& chat = std::get<PromptChat>(line.content);
  EXPECT_EQ(chat.messages_json, R"([{"z": 1.0, "a": "]}"}])");
  EXPECT_EQ(chat.tools_json, R"([{"b": {}}])");
  EXPECT_EQ(chat.kwargs_json, R"({"k": "}"})");
  EXPECT_EQ(line.metadata_json, "");
}

TEST(InputLine, OtherFieldsAreMetadataVerbatim) {
  const InputLine line = read(
      R"( {"x\u0031":1.50 , "prompt":"p","nested" : {"b":[1, {"a":"\"}"}],"a":null}, "text":"t","end":1} )");
  EXPECT_EQ(line.metadata_json,
            R"({"x\u0031":1.50,"nested":{"b":[1, {"a":"\"}"}],"a":null},"text":"t","end":1})");
}

TEST(InputLine, SamplingKeysOverrideTheJobs) {
  const InputLine line = read(
      R"({"prompt": "", "max_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "n": 2,
    "seed": 18446744073709551615, "stop": "a", "stop_token_ids": [4], "ignore_eos": true, "logprobs": 5,
    "min_tokens": 1,
    "repetition_penalty": 1.5, "frequency_penalty": -1, "presence_penalty": 2})");
  SamplingParams expected;
  expected = {7, 1, 0, 0.5, 3, 0.1, 2, UINT64_MAX, 1.5, -1, 2, {"a"}, {4}, true, 5};
  EXPECT_EQ(line.sampling, expected);
  EXPECT_EQ(read(R"({"prompt": "", "stop": ["a", "b"]})").sampling.stop,
            (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(read(R"({"prompt": "", "max_tokens": null})").sampling.max_tokens, 99);
}

TEST(InputLine, Score) {
  const InputLine pair = read(R"({"context": "c", "continuation": "d", "prompt": "meta"})", Task::kScore);
  EXPECT_EQ(std::get<ScorePair>(pair.content).context, "c");
  EXPECT_EQ(std::get<ScorePair>(pair.content).continuation, "d");
  EXPECT_EQ(pair.metadata_json, R"({"prompt":"meta"})");
  EXPECT_EQ(std::get<ScoreText>(read(R"({"text": "t"})", Task::kScore).content).text, "t");
  EXPECT_EQ(std::get<PromptIds>(read(R"({"token_ids": [5, 6]})", Task::kScore).content).ids.size(), 2U);
}

std::string openai(const std::string& body, const std::string& url = "/v1/chat/completions") {
  return R"({"custom_id": "c", "method": "POST", "url": ")" + url + R"(", "body": {)" + body + "}}";
}
const std::string kMessages = R"("messages": [{"role": "user", "content": "x"}])";

TEST(InputLine, OpenAiChat) {
  const InputLine line =
      read(openai(kMessages + R"(, "model": "m", "max_tokens": 5, "max_completion_tokens": 6, "stream": false,
    "stop": null, "seed": 4, "logprobs": true, "top_logprobs": 3,
    "response_format": {"type": "text"}, "logit_bias": {},
    "tools": [{"type": "function"}], "tool_choice": "auto", "chat_template_kwargs": {"a": 1},
    "user": "u", "top_k": 9)"));
  EXPECT_EQ(line.id, "c");
  EXPECT_EQ(line.form, LineForm::kOpenAiChat);
  EXPECT_EQ(line.sampling.max_tokens, 6);
  EXPECT_EQ(line.sampling.logprobs, 3);
  EXPECT_EQ(line.sampling.top_k, 9);
  EXPECT_EQ(line.sampling.stop, std::vector<std::string>{"job"});
  const auto& chat = std::get<PromptChat>(line.content);
  EXPECT_EQ(chat.messages_json, R"([{"role": "user", "content": "x"}])");
  EXPECT_EQ(chat.tools_json, R"([{"type": "function"}])");
  EXPECT_EQ(chat.kwargs_json, R"({"a": 1})");
  EXPECT_EQ(line.metadata_json, "");
}

TEST(InputLine, OpenAiDetails) {
  EXPECT_EQ(read(openai(kMessages + R"(, "logprobs": true)")).sampling.logprobs, 1);
  EXPECT_EQ(read(openai(kMessages + R"(, "max_completion_tokens": 6, "max_tokens": 5)")).sampling.max_tokens,
            6);
  const InputLine none = read(openai(kMessages + R"(, "tools": [{}], "tool_choice": "none")"));
  EXPECT_EQ(std::get<PromptChat>(none.content).tools_json, "");
  const InputLine bare = read(R"({"custom_id": "c", "body": {)" + kMessages + R"(}, "extra": [1]})");
  EXPECT_EQ(bare.form, LineForm::kOpenAiChat);
  EXPECT_EQ(bare.metadata_json, R"({"extra":[1]})");
  EXPECT_EQ(read(R"({"prompt": "p", "body": "a field like any other"})").form, LineForm::kPlain);
}

TEST(InputLine, OpenAiCompletion) {
  const InputLine line =
      read(openai(R"("prompt": "p", "logprobs": 2, "echo": false, "best_of": 1, "n": 3)", "/v1/completions"));
  EXPECT_EQ(line.form, LineForm::kOpenAiCompletion);
  EXPECT_EQ(std::get<PromptText>(line.content).text, "p");
  EXPECT_EQ(line.sampling.logprobs, 2);
  EXPECT_EQ(line.sampling.n, 3);
  EXPECT_EQ(std::get<PromptIds>(read(openai(R"("prompt": [1, 2])", "/v1/completions")).content).ids.size(),
            2U);
  EXPECT_EQ(read(openai(R"("prompt": "p", "logprobs": 0)", "/v1/completions")).sampling.logprobs, 1);
}

struct Faulty {
  const char* name;
  std::string line;
  const char* code;
  const char* message;  // a part of it
  Task task = Task::kGenerate;
};

const Faulty kFaulty[] = {
    {"NotJson", "prompt", "malformed_line", "not valid JSON"},
    {"CutShort", R"({"prompt": "a)", "malformed_line", "not valid JSON"},
    {"TrailingText", R"({"prompt": "a"} x)", "malformed_line", "not valid JSON"},
    {"NotAnObject", "[1]", "malformed_line", "not a JSON object"},
    {"TooDeep", R"({"prompt": "", "x": )" + std::string(300, '[') + std::string(300, ']') + "}",
     "malformed_line", "deeper"},
    {"InvalidUtf8", "{\"prompt\": \"\xFF\"}", "invalid_utf8", "byte 12"},
    {"LoneSurrogate", R"({"prompt": "\ud800"})", "malformed_line", "not valid JSON"},
    {"KeyTwice", R"({"prompt": "a", "prompt": "b"})", "malformed_line", "\"prompt\" is given twice"},
    {"NoPrompt", R"({"text": "a"})", "malformed_line", "none of"},
    {"PromptAndMessages", R"({"prompt": "a", "messages": []})", "malformed_line", "only one"},
    {"PromptIsNumber", R"({"prompt": 5})", "malformed_line", "\"prompt\" must be a string"},
    {"PromptIsList", R"({"prompt": ["a"]})", "malformed_line", "\"prompt\" must be a string"},
    {"IdIsList", R"({"id": [], "prompt": ""})", "malformed_line", "\"id\" must be"},
    {"IdIsFraction", R"({"id": 1.5, "prompt": ""})", "malformed_line", "\"id\" must be"},
    {"IdIsLong", R"({"id": ")" + std::string(2000, 'x') + R"(", "prompt": ""})", "malformed_line", "longer"},
    {"MessagesIsObject", R"({"messages": {}})", "malformed_line", "\"messages\" must be a list"},
    {"KwargsIsList", R"({"messages": [], "chat_template_kwargs": []})", "malformed_line",
     "must be an object"},
    {"TokenIdsIsText", R"({"token_ids": "1"})", "malformed_line", "list of token ids"},
    {"TokenIdIsFraction", R"({"token_ids": [1, 2.0]})", "malformed_line", "list of token ids"},
    {"TokenIdIsExponent", R"({"token_ids": [1e3]})", "malformed_line", "list of token ids"},
    {"TokenIdIsNegative", R"({"token_ids": [-1]})", "malformed_line", "list of token ids"},
    {"TokenIdIsGiant", R"({"token_ids": [4294967296]})", "malformed_line", "list of token ids"},
    {"TokenIdIsList", R"({"token_ids": [[1]]})", "malformed_line", "list of token ids"},
    {"TemperatureIsText", R"({"prompt": "", "temperature": "hot"})", "bad_parameter",
     "temperature must be a number, not \"hot\""},
    {"TopPIsTwo", R"({"prompt": "", "top_p": 2})", "bad_parameter", "top_p must be"},
    {"NIsZero", R"({"prompt": "", "n": 0})", "bad_parameter", "n must be"},
    {"SeedIsNegative", R"({"prompt": "", "seed": -1})", "bad_parameter", "seed must be"},
    {"StopIsNumber", R"({"prompt": "", "stop": [1]})", "bad_parameter", "stop must be"},
    {"StopIsEmpty", R"({"prompt": "", "stop": ""})", "bad_parameter", "stop has an empty string"},
    {"MaxTokensIsGiant", R"({"prompt": "", "max_tokens": 18446744073709551615})", "bad_parameter",
     "max_tokens must be"},
    {"ScoreOfPrompt", R"({"prompt": "a"})", "malformed_line", "nothing to score", Task::kScore},
    {"ScoreHalf", R"({"context": "a"})", "malformed_line", "both", Task::kScore},
    {"ScoreOpenAi", openai(kMessages), "bad_parameter", "task is score", Task::kScore},
    {"OpenAiNoId", R"({"url": "/v1/completions", "body": {"prompt": "a"}})", "malformed_line",
     "\"custom_id\" is missing"},
    {"OpenAiBodyIsText", R"({"custom_id": "c", "body": "x"})", "malformed_line",
     "\"body\" must be an object"},
    {"OpenAiGet", R"({"custom_id": "c", "method": "GET", "body": {}})", "bad_parameter", "POST"},
    {"OpenAiEmbeddings", openai(R"("input": "x")", "/v1/embeddings"), "bad_parameter", "/v1/embeddings"},
    {"OpenAiNoMessages", openai(R"("model": "m")"), "malformed_line", "no \"messages\""},
    {"OpenAiNoPrompt", openai(R"("model": "m")", "/v1/completions"), "malformed_line", "no \"prompt\""},
    {"OpenAiStream", openai(kMessages + R"(, "stream": true)"), "bad_parameter", "\"stream\""},
    {"OpenAiFormat", openai(kMessages + R"(, "response_format": {"type": "json_object"})"), "bad_parameter",
     "\"response_format\""},
    {"OpenAiBias", openai(kMessages + R"(, "logit_bias": {"5": 1})"), "bad_parameter", "\"logit_bias\""},
    {"OpenAiUnknown", openai(kMessages + R"(, "frobnicate": 1)"), "bad_parameter", "\"frobnicate\""},
    {"OpenAiToolChoice", openai(kMessages + R"(, "tool_choice": "required")"), "bad_parameter",
     "tool_choice"},
    {"OpenAiTopLogprobs", openai(kMessages + R"(, "top_logprobs": 2)"), "bad_parameter",
     "needs \"logprobs\""},
    {"OpenAiPrompts", openai(R"("prompt": ["a", "b"])", "/v1/completions"), "bad_parameter",
     "several prompts"},
    {"OpenAiTemperature", openai(kMessages + R"(, "temperature": -1)"), "bad_parameter",
     "temperature must be"},
};

class FaultyLine : public testing::TestWithParam<Faulty> {};

TEST_P(FaultyLine, IsNamed) {
  const Faulty& faulty = GetParam();
  const auto result = parse_input_line(faulty.line, faulty.task, job_sampling());
  ASSERT_TRUE(std::holds_alternative<LineFault>(result));
  const RequestError& error = std::get<LineFault>(result).error;
  EXPECT_EQ(error.code, faulty.code);
  EXPECT_NE(error.message.find(faulty.message), std::string::npos) << error.message;
  EXPECT_LT(error.message.size(), 400U);
}

INSTANTIATE_TEST_SUITE_P(All, FaultyLine, testing::ValuesIn(kFaulty),
                         [](const auto& test) { return test.param.name; });

TEST(InputLine, FaultsKeepIdAndForm) {
  const auto plain = parse_input_line(R"({"top_p": 5, "prompt": "", "id": "me"})", Task::kGenerate, {});
  EXPECT_EQ(std::get<LineFault>(plain).id, "me");
  const auto chat = parse_input_line(openai(kMessages + R"(, "stream": true)"), Task::kGenerate, {});
  EXPECT_EQ(std::get<LineFault>(chat).id, "c");
  EXPECT_EQ(std::get<LineFault>(chat).form, LineForm::kOpenAiChat);
}

TEST(InputLine, EveryCutOfALineIsAFaultAndNoCrash) {
  const std::string line = openai(kMessages + R"(, "stop": ["a\"b", "\u00e9"], "logit_bias": {})");
  for (size_t size = 0; size < line.size(); ++size) {
    EXPECT_TRUE(
        std::holds_alternative<LineFault>(parse_input_line(line.substr(0, size), Task::kGenerate, {})))
        << size;
  }
}

}  // namespace
}  // namespace nemo
