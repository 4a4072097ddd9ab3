// Files to requests: order, places, resuming, context limits, and how scored texts are cut.
#include "lib/text/prompt_source.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <set>

#include "kernels/error.h"
#include "lib/text/line_reader.h"
#include "tests/lib/text/temporary_folder.h"
#include "tests/lib/text/toy_tokenizer.h"

namespace nemo {
namespace {

using Ids = std::vector<int32_t>;

Ids ids_of(const std::string& text) {
  Ids ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

class PromptSourceTest : public testing::Test {
 protected:
  PromptSource open(std::vector<std::string> paths, Task task = Task::kGenerate,
                    std::optional<int32_t> bos_id = {}, ChatTemplate* chat_template = nullptr) {
    PromptSourceOptions options;
    options.paths = std::move(paths);
    options.task = task;
    options.max_context = 100;
    options.bos_id = bos_id;
    return PromptSource(options, tokenizer_, chat_template);
  }

  std::vector<Prompt> read_all(const std::string& text, Task task = Task::kGenerate,
                               std::optional<int32_t> bos_id = {}) {
    PromptSource source = open({folder_.write("in.jsonl", text)}, task, bos_id);
    std::vector<Prompt> prompts;
    while (auto prompt = source.next()) prompts.push_back(std::move(*prompt));
    return prompts;
  }

  Request request(const std::string& line, Task task = Task::kGenerate, std::optional<int32_t> bos_id = {}) {
    return std::get<Request>(read_all(line, task, bos_id).at(0));
  }

  RequestError error(const std::string& line, Task task = Task::kGenerate) {
    return std::get<Record>(read_all(line, task).at(0)).error.value();
  }

  static std::string bad_job(const std::vector<std::string>& paths) {
    try {
      expand_input_paths(paths);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadJob);
      return error.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
  // "ab" is a token, " a" is one, so that joints can be merged over.
  Tokenizer tokenizer_ = [] {
    nlohmann::json json = toy_json({{"a", "b"}, {" ", "a"}}, {"<s>"});
    json["post_processor"] = nlohmann::json::parse(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
      "special_tokens": {"<s>": {"ids": [258]}}})");
    return tokenizer_of(json);
  }();
};

TEST_F(PromptSourceTest, LinesOfAllFilesInOrder) {
  folder_.write("b.jsonl", "\xEF\xBB\xBF{\"prompt\": \"1\"}\r\n\n  \t\n{\"prompt\": \"2\", \"id\": \"two\"}");
  folder_.write("a.jsonl.gz", gzip("{\"prompt\": \"3\"}\n") + gzip("{\"prompt\": \"4\"}\n"));
  folder_.write("c.jsonl", "");
  const std::string base = folder_.path().string();
  PromptSource source = open({base + "/b.jsonl", base + "/[ac].jsonl*"});
  EXPECT_EQ(source.files(),
            (std::vector<std::string>{base + "/b.jsonl", base + "/a.jsonl.gz", base + "/c.jsonl"}));
  for (int i = 0; i < 4; ++i) {
    const auto prompt = source.next();
    ASSERT_TRUE(prompt);
    const auto& got = std::get<Request>(*prompt);
    EXPECT_EQ(got.index, i);
    EXPECT_EQ(got.id, i == 1 ? "two" : std::to_string(i));
    EXPECT_EQ(got.prompt_ids, (Ids{258, '1' + i}));
  }
  EXPECT_FALSE(source.next());
  EXPECT_FALSE(source.next());
  EXPECT_EQ(source.num_lines(), 4);
}

TEST_F(PromptSourceTest, FaultyLinesAreRecordsWithTheirPlace) {
  const auto prompts =
      read_all("{\"prompt\": \"1\"}\n\n{\"id\": \"x\", \"prompt\": 5, \"keep\": 1}\n{\"prompt\": \"3\"}\n");
  ASSERT_EQ(prompts.size(), 3U);
  const auto& record = std::get<Record>(prompts[1]);
  EXPECT_EQ(record.index, 1);
  EXPECT_EQ(record.id, "x");
  EXPECT_EQ(record.error->code, "malformed_line");
  EXPECT_EQ(record.error->message, "in.jsonl:3: \"prompt\" must be a string");
  EXPECT_EQ(std::get<Request>(prompts[2]).index, 2);
}

TEST_F(PromptSourceTest, TokenTroubleIsNamed) {
  EXPECT_EQ(error(R"({"token_ids": [1, 259]})").code, "unknown_token");
  EXPECT_EQ(error(R"({"prompt": "a", "stop_token_ids": [259]})").code, "unknown_token");
  EXPECT_EQ(error(R"({"token_ids": []})").code, "bad_parameter");
  EXPECT_EQ(error(R"({"messages": [{"role": "user", "content": "a"}]})").code, "template_error");
  EXPECT_EQ(error("{\"prompt\": \"\xC3\"}").code, "invalid_utf8");
}

TEST_F(PromptSourceTest, TheContextIsNotExceeded) {
  const std::string long_prompt(98, 'x');
  const Request fits =
      request("{\"prompt\": \"" + long_prompt + "\", \"max_tokens\": 50, \"min_tokens\": 20}");
  EXPECT_EQ(fits.prompt_ids.size(), 99U);
  EXPECT_EQ(fits.sampling.max_tokens, 1);
  EXPECT_EQ(fits.sampling.min_tokens, 1);
  EXPECT_EQ(request(R"({"prompt": "x", "max_tokens": 50})").sampling.max_tokens, 50);
  const RequestError too_long = error("{\"id\": 7, \"prompt\": \"" + long_prompt + "x\"}");
  EXPECT_EQ(too_long.code, "prompt_too_long");
  EXPECT_NE(too_long.message.find("100 tokens"), std::string::npos) << too_long.message;
  // A scored text may be longer (it is scored in windows), its context may not.
  EXPECT_EQ(request("{\"text\": \"" + std::string(300, 'x') + "\"}", Task::kScore).continuation_ids.size(),
            299U);
  const std::string long_context(101, 'x');
  EXPECT_EQ(error("{\"context\": \"" + long_context + "\", \"continuation\": \"y\"}", Task::kScore).code,
            "prompt_too_long");
}

TEST_F(PromptSourceTest, ChatsGetNoSpecialTokensOfTheTokenizer) {
  folder_.write("chat_template.jinja", "{{ messages[0].content }}<s>");
  ChatTemplate chat_template = ChatTemplate::load(folder_.path().string());
  const std::string file = folder_.write("in.jsonl", R"({"messages": [{"role": "user", "content": "hi"}]})");
  PromptSource source = open({file}, Task::kGenerate, {}, &chat_template);
  EXPECT_EQ(std::get<Request>(*source.next()).prompt_ids, (Ids{'h', 'i', 258}));
}

struct Pair {
  const char* name;
  const char* context;
  const char* continuation;
  Ids prompt_ids;
  Ids continuation_ids;
};

const Pair kPairs[] = {
    {"Plain", "xy", "z", {'x', 'y'}, {'z'}},
    {"SpaceMovesOver", "x ", "a", {'x'}, {257}},
    {"AllSpacesMoveOver", "x \\u3000\\n", "z", {'x'}, {' ', 0xE3, 0x80, 0x80, '\n', 'z'}},
    {"MergedOverTheJoint", "xa", "bz", {'x', 256}, {'z'}},  // as one text: x, ab, z
    {"MergedAway", "xa", "b", {'x', 'a'}, {'b'}},  // as one text the continuation would have no token
    {"EmptyContext", "", "xyz", {'x'}, {'y', 'z'}},
    {"BlankContext", " ", "xyz", {' '}, {'x', 'y', 'z'}},
};

class ScorePairs : public PromptSourceTest, public testing::WithParamInterface<Pair> {};

TEST_P(ScorePairs, AreCutAsEvaluationsDo) {
  const Pair& pair = GetParam();
  const Request got = request(
      std::string("{\"context\": \"") + pair.context + "\", \"continuation\": \"" + pair.continuation + "\"}",
      Task::kScore);
  EXPECT_EQ(got.prompt_ids, pair.prompt_ids);
  EXPECT_EQ(got.continuation_ids, pair.continuation_ids);
}

INSTANTIATE_TEST_SUITE_P(All, ScorePairs, testing::ValuesIn(kPairs),
                         [](const auto& test) { return test.param.name; });

TEST_F(PromptSourceTest, ScoredTextsBeginBehindABosIfThereIsOne) {
  EXPECT_EQ(request(R"({"text": "xyz"})", Task::kScore, 258).prompt_ids, Ids{258});
  EXPECT_EQ(request(R"({"text": "xyz"})", Task::kScore, 258).continuation_ids, ids_of("xyz"));
  EXPECT_EQ(request(R"({"text": "xyz"})", Task::kScore).prompt_ids, Ids{'x'});
  EXPECT_EQ(request(R"({"token_ids": [5, 6, 7]})", Task::kScore, 258).continuation_ids, (Ids{6, 7}));
  EXPECT_EQ(request(R"({"context": "", "continuation": "x"})", Task::kScore, 258).continuation_ids, Ids{'x'});
  EXPECT_EQ(error(R"({"text": "x"})", Task::kScore).code, "bad_parameter");
  EXPECT_EQ(error(R"({"context": "x", "continuation": ""})", Task::kScore).code, "bad_parameter");
}

TEST_F(PromptSourceTest, PassesOverLinesThatAreNotNeeded) {
  std::string text;
  for (int i = 0; i < 100; ++i)
    text += i % 7 == 0 ? "broken\n" : "{\"prompt\": \"" + std::to_string(i) + "\"}\n\n";
  const auto all = read_all(text);
  ASSERT_EQ(all.size(), 100U);
  PromptSource source = open({folder_.write("in.jsonl", text)});
  for (int i = 3; i < 100; i += 5) {
    const auto prompt = source.next([](int64_t index) { return index % 5 == 3; });
    ASSERT_TRUE(prompt);
    ASSERT_EQ(prompt->index(), all[static_cast<size_t>(i)].index());
    if (const auto* got = std::get_if<Request>(&*prompt)) {
      EXPECT_EQ(got->index, i);
      EXPECT_EQ(got->prompt_ids, std::get<Request>(all[static_cast<size_t>(i)]).prompt_ids);
    } else {
      EXPECT_EQ(std::get<Record>(*prompt), std::get<Record>(all[static_cast<size_t>(i)]));
    }
  }
  EXPECT_FALSE(source.next([](int64_t) { return false; }));
  EXPECT_EQ(source.num_lines(), 100);
}

// A resumed job must refuse the same lines as one that was never stopped.
TEST_F(PromptSourceTest, SecondCustomIdIsRefusedAlsoBehindLinesPassedOver) {
  const auto line = [](const std::string& id) {
    return R"({"custom_id": ")" + id + R"(", "url": "/v1/completions", "body": {"prompt": "x"}})" + "\n";
  };
  const std::string text = line("a") + line("b") + line("a") + R"({"id": "b", "prompt": "x"})" + "\n" +
                           R"({"id": "b", "prompt": "x"})";
  for (const bool resumed : {false, true}) {
    PromptSource source = open({folder_.write("in.jsonl", text)});
    std::set<int64_t> refused;
    while (const auto prompt = source.next([&](int64_t index) { return !resumed || index >= 2; })) {
      if (const auto* record = std::get_if<Record>(&*prompt)) {
        EXPECT_EQ(record->error->code, "duplicate_id");
        EXPECT_EQ(record->id, "a");
        EXPECT_EQ(record->form, LineForm::kOpenAiCompletion);
        refused.insert(record->index);
      }
    }
    EXPECT_EQ(refused, std::set<int64_t>{2});
  }
}

TEST_F(PromptSourceTest, AnOverlongLineIsOneRecord) {
  const std::string limit(FileLineReader::kMaxLineBytes - 16, 'x');
  const std::string file =
      folder_.write("in.jsonl", "{\"prompt\": \"" + limit + "yyyyyy\"}\n{\"prompt\": \"z\"}\n");
  PromptSource source = open({file});
  const auto first = source.next();
  EXPECT_EQ(std::get<Record>(*first).error->message, "in.jsonl:1: the line is longer than 64 MiB");
  EXPECT_EQ(std::get<Request>(*source.next()).prompt_ids, (Ids{258, 'z'}));
  EXPECT_FALSE(source.next());
}

TEST_F(PromptSourceTest, DamagedGzipIsAnError) {
  std::string lines;
  for (int i = 0; i < 20000; ++i) lines += "{\"prompt\": \"" + std::to_string(i * 7919 % 10007) + "\"}\n";
  const std::string whole = gzip(lines);
  for (const std::string& damaged :
       {whole.substr(0, whole.size() / 2), whole.substr(0, whole.size() - 4),
        whole.substr(0, whole.size() / 2) + std::string(whole.size() / 2, '\7')}) {
    PromptSource source = open({folder_.write("in.jsonl.gz", damaged)});
    try {
      while (source.next([](int64_t) { return false; })) {
      }
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("in.jsonl.gz"), std::string::npos);
    }
  }
}

TEST_F(PromptSourceTest, BadPathsAreABadJob) {
  const std::string base = folder_.path().string();
  EXPECT_NE(bad_job({base + "/none.jsonl"}).find("does not exist"), std::string::npos);
  EXPECT_NE(bad_job({base + "/*.none"}).find("matches no file"), std::string::npos);
  EXPECT_NE(bad_job({base}).find("is a folder"), std::string::npos);
  EXPECT_NE(bad_job({"-"}).find("standard input"), std::string::npos);
  EXPECT_NE(bad_job({"/dev/null"}).find("not a file"), std::string::npos);
  // A file whose name looks like a pattern is a file.
  const std::string odd = folder_.write("odd[1].jsonl", "");
  EXPECT_EQ(expand_input_paths({odd}), std::vector<std::string>{odd});
}

}  // namespace
}  // namespace nemo
