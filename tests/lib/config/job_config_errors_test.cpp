// Jobs that are wrong: the whole text of what the user reads.
#include <gtest/gtest.h>

#include <random>

#include "lib/config/job_config.h"
#include "lib/config/nearest_key.h"
#include "lib/config/units.h"
#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

const std::string kRequired = "model: {path: m}\ninput: {path: p.jsonl}\noutput: {path: out}\n";

/// The error of a job without its folder, "job.yaml:4: ...".
std::string refuse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const TemporaryFolder folder;
  const std::string path = folder.write("job.yaml", text);
  std::string error = error_of([&] { load_job_config(path, overrides); });
  for (size_t at = 0; (at = error.find(folder.path() + "/")) != std::string::npos;) {
    error.erase(at, folder.path().size() + 1);
  }
  return error;
}

/// The error of a job whose fourth line is `line`.
std::string refuse_line(const std::string& line) {
  return refuse(kRequired + line + "\n");
}

TEST(UnknownKeys, NameTheNearest) {
  EXPECT_EQ(refuse_line("sampling: {temprature: 1}"),
            "job.yaml:4: sampling.temprature: unknown key (did you mean 'temperature'?)");
  EXPECT_EQ(refuse(kRequired + "sampling:\n  top_p: 1\n  max_token: 5\n"),
            "job.yaml:6: sampling.max_token: unknown key (did you mean 'max_tokens'?)");
  EXPECT_EQ(refuse_line("samplign: {temperature: 1}"),
            "job.yaml:4: samplign: unknown key (did you mean 'sampling'?)");
  EXPECT_EQ(refuse_line("temperature: 1"),
            "job.yaml:4: temperature: unknown key (did you mean 'sampling.temperature'?)");
  EXPECT_EQ(refuse_line("engine: {max_tokens: 1}"),
            "job.yaml:4: engine.max_tokens: unknown key (did you mean 'sampling.max_tokens'?)");
  EXPECT_EQ(refuse_line("limits: {zzzzzzzz: 1}"),
            "job.yaml:4: limits.zzzzzzzz: unknown key (known in limits: max_time, memory, wait_deadline)");
  EXPECT_EQ(refuse_line("zzzzzzzz: 1"),
            "job.yaml:4: zzzzzzzz: unknown key (known: name, task, model, parallel, input, output, sampling, "
            "engine, limits)");
  EXPECT_EQ(refuse(kRequired, {"sampling.temprature=1"}),
            "--set sampling.temprature=1: sampling.temprature: unknown key (did you mean 'temperature'?)");
  EXPECT_EQ(refuse(kRequired, {"smapling.top_p=1"}),
            "--set smapling.top_p=1: smapling: unknown key (did you mean 'sampling'?)");
}

TEST(RequiredKeys, AreNamed) {
  EXPECT_EQ(refuse("name: x\n"),
            "job.yaml: model.path: is missing (a Hugging Face folder: config.json, tokenizer, "
            "safetensors; or a pack)");
  EXPECT_EQ(refuse("model: {path: m}\ninput: {path: p}\n"),
            "job.yaml: output.path: is missing (results, journal and manifest; made if missing)");
  EXPECT_EQ(refuse(""),
            "job.yaml: model.path: is missing (a Hugging Face folder: config.json, tokenizer, "
            "safetensors; or a pack)");
}

struct WrongValue {
  std::string line;
  std::string expected;
};

class WrongValues : public testing::TestWithParam<WrongValue> {};

TEST_P(WrongValues, AreRefusedWithWhatIsPossible) {
  EXPECT_EQ(refuse_line(GetParam().line), "job.yaml:4: " + GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Types, WrongValues,
    testing::Values(
        WrongValue{"task: guess", "task: must be generate or score, not 'guess'"},
        WrongValue{"name: []", "name: must be a text, not a list"},
        WrongValue{"name: \"a\\nb\"", "name: must be one line of at most 128 bytes"},
        WrongValue{"sampling: 5",
                   "sampling: is a section, not a value (its keys: max_tokens, min_tokens, temperature, "
                   "top_p, top_k, min_p, n, seed, repetition_penalty, frequency_penalty, "
                   "presence_penalty, stop, stop_token_ids, ignore_eos, logprobs)"},
        WrongValue{"sampling: {temperature: hot}", "sampling.temperature: must be a number, not 'hot'"},
        WrongValue{"sampling: {temperature: .inf}", "sampling.temperature: must be a number, not '.inf'"},
        WrongValue{"sampling: {temperature: \"1\"}",
                   "sampling.temperature: must be a number, not '1' (remove the quotes)"},
        WrongValue{"sampling: {temperature: }", "sampling.temperature: must be a number, not nothing"},
        WrongValue{"sampling: {ignore_eos: yes}", "sampling.ignore_eos: must be true or false, not 'yes'"},
        WrongValue{"sampling: {seed: -1}",
                   "sampling.seed: must be an integer from 0 to 18446744073709551615, not '-1'"},
        WrongValue{"sampling: {stop: {a: b}}", "sampling.stop: must be a text, not a section"},
        WrongValue{"sampling: {stop_token_ids: 3}",
                   "sampling.stop_token_ids: must be a list of token ids, not '3'"},
        WrongValue{"sampling: {stop_token_ids: [-3]}",
                   "sampling.stop_token_ids: must be an integer from 0 to 2147483647, not '-3'"},
        WrongValue{"parallel: {pipeline: 0}",
                   "parallel.pipeline: must be auto or an integer from 1 to 1048576, not '0'"},
        WrongValue{"parallel: {threads: many}",
                   "parallel.threads: must be auto or an integer from 1 to 4096, not 'many'"},
        WrongValue{"engine: {prefill_chunk: 1.5}",
                   "engine.prefill_chunk: must be auto or an integer from 1 to 16777216, not '1.5'"},
        WrongValue{"engine: {prefill_chunk: 9, max_batch_tokens: 8}",
                   "engine.prefill_chunk: 9 is more than engine.max_batch_tokens 8 (a prompt's chunk is part "
                   "of a batch)"},
        WrongValue{
            "limits: {max_time: soon}",
            "limits.max_time: must be none or a time of at most ten years, like 2h30m or 90s, not 'soon'"},
        WrongValue{"limits: {wait_deadline: none}",
                   "limits.wait_deadline: must be a time of at least one second, like 90s or 5m"},
        WrongValue{
            "limits: {memory: 20}",
            "limits.memory: must be auto or a size of at least 16MiB with its unit, like 20GiB, not '20'"},
        WrongValue{
            "limits: {memory: 20G}",
            "limits.memory: must be auto or a size of at least 16MiB with its unit, like 20GiB, not '20G'"}));

INSTANTIATE_TEST_SUITE_P(
    Ranges, WrongValues,
    testing::Values(
        WrongValue{"sampling: {max_tokens: 0}",
                   "sampling.max_tokens: must be at least 1 and at most 2147483648, not 0"},
        WrongValue{"sampling: {min_tokens: 300}",
                   "sampling.min_tokens: must not exceed max_tokens (256), but is 300"},
        WrongValue{"sampling: {temperature: -1}",
                   "sampling.temperature: must be at least 0 and at most 100, not -1"},
        WrongValue{"sampling: {top_p: 0}", "sampling.top_p: must be greater than 0 and at most 1, not 0"},
        WrongValue{"sampling: {top_p: 1.5}", "sampling.top_p: must be greater than 0 and at most 1, not 1.5"},
        WrongValue{"sampling: {top_k: -1}",
                   "sampling.top_k: must be at least 0 and at most 2147483648, not -1"},
        WrongValue{"sampling: {min_p: 2}", "sampling.min_p: must be at least 0 and at most 1, not 2"},
        WrongValue{"sampling: {n: 0}", "sampling.n: must be at least 1 and at most 65536, not 0"},
        WrongValue{"sampling: {repetition_penalty: 0}",
                   "sampling.repetition_penalty: must be greater than 0 and at most 100, not 0"},
        WrongValue{"sampling: {presence_penalty: 101}",
                   "sampling.presence_penalty: must be at least -100 and at most 100, not 101"},
        WrongValue{"sampling: {logprobs: -1}",
                   "sampling.logprobs: must be at least 0 and at most 1024, not -1"}));

TEST(Values, OfOutputAndInput) {
  const std::string model = "model: {path: m}\n";
  EXPECT_EQ(refuse(model + "input: {path: []}\noutput: {path: o}\n"),
            "job.yaml:2: input.path: must name at least one file");
  EXPECT_EQ(refuse(model + "input: {path: p}\noutput: {path: o, formats: [csv]}\n"),
            "job.yaml:3: output.formats: 'csv' is no output format (known: jsonl, hdf5)");
  EXPECT_EQ(refuse(model + "input: {path: p}\noutput: {path: o, formats: []}\n"),
            "job.yaml:3: output.formats: must name at least one format (known: jsonl, hdf5)");
  EXPECT_EQ(refuse(kRequired, {"sampling.top_p=2"}),
            "--set sampling.top_p=2: sampling.top_p: must be greater than 0 and at most 1, not 2");
  EXPECT_EQ(refuse(kRequired + "sampling: {stop: \"\"}\n"),
            "job.yaml:4: sampling.stop: must be a text, not ''");
}

TEST(Yaml, SyntaxErrorsHaveLineAndColumn) {
  EXPECT_EQ(refuse("model: {path: m\n").substr(0, 10), "job.yaml:2");
  EXPECT_NE(refuse("model: {path: m\n").find(": not valid YAML: "), std::string::npos);
  EXPECT_NE(refuse("a: b: c\n").find("job.yaml:1:"), std::string::npos);
  EXPECT_NE(refuse(kRequired, {"sampling.stop=[a"}).find("--set sampling.stop=[a: not valid YAML: "),
            std::string::npos);
}

TEST(Yaml, WhatAJobDoesNotNeedIsRefused) {
  EXPECT_EQ(refuse("name: a\nname: b\n"),
            "job.yaml:2: key 'name' is given twice, first at job.yaml:1 (remove one of the two)");
  EXPECT_EQ(refuse("sampling:\n  n: 1\n  top_k: 1\n  n: 2\n"),
            "job.yaml:4: key 'n' is given twice, first at job.yaml:2 (remove one of the two)");
  EXPECT_EQ(refuse("name: &a x\n"),
            "job.yaml:1: anchors are not supported in a job file (write the value out where it is used)");
  EXPECT_NE(refuse("name: *a\n").find("job.yaml:1"), std::string::npos);
  EXPECT_NE(refuse("name: !!binary x\n").find("tags are not supported"), std::string::npos);
  EXPECT_NE(refuse(kRequired + "---\nname: b\n").find("more than one YAML document"), std::string::npos);
  EXPECT_NE(refuse("- a\n").find("a job file is a map of keys"), std::string::npos);
  EXPECT_NE(refuse("[a]: b\n").find("a key must be a word"), std::string::npos);
  EXPECT_NE(refuse("name: " + std::string(2000, '[')).find("job.yaml:1"), std::string::npos);
  EXPECT_NE(refuse(std::string("name: a\0b", 9)).find("zero byte"), std::string::npos);
  EXPECT_NE(refuse("name: " + std::string(2 << 20, 'x')).find("has 2097158 bytes; at most 1048576"),
            std::string::npos);
}

TEST(CommandLine, Faults) {
  EXPECT_EQ(refuse(kRequired, {"sampling.top_p"}),
            "--set sampling.top_p: has no '=' (write --set section.key=value)");
  EXPECT_NE(refuse(kRequired, {"=1"}).find("unknown key"), std::string::npos);
  EXPECT_EQ(error_of([] { load_job_config("/nowhere/job.yaml", {}); }),
            "/nowhere/job.yaml: does not exist (give the job file to --job)");
  EXPECT_EQ(error_of([] { load_job_config("/", {}); }), "/: is not a file");
}

TEST(CommandLine, EveryFaultIsABadJob) {
  const TemporaryFolder folder;
  const std::vector<std::string> texts = {
      "",   "a: b: c", "name: &a x", "zzz: 1", kRequired + "sampling: {n: 0}", std::string(2 << 20, ' '),
      "- a"};
  for (const std::string& text : texts) {
    try {
      load_job_config(folder.write("job.yaml", text), {});
      ADD_FAILURE() << text.substr(0, 50);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadJob) << error.what();
    }
  }
}

TEST(Mutations, OfAJobGiveAConfigOrAnError) {
  const TemporaryFolder folder;
  const std::string text = read_file(source_path("configs/jobs/super-120b-16-ranks.yaml"));
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    std::string mutated = text;
    for (int change = 0; change < 1 + i % 3; ++change) {
      mutated[random() % mutated.size()] = "{}[]:-&*!|>'\"%@`#,? \n\t0a\xff"[random() % 25];
    }
    const std::string path = folder.write("job.yaml", mutated);
    try {
      load_job_config(path, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadJob);
    }
  }
}

TEST(NearestKey, Distances) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("top_p", "top_p"), 0u);
  EXPECT_EQ(edit_distance("samplign", "sampling"), 1u);  // neighbours swapped
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(nearest_key("tpo_p", {"top_k", "top_p"}), "top_p");
  EXPECT_EQ(nearest_key("x", {"top_k", "n"}), "n");
  EXPECT_EQ(nearest_key("completely", {"different"}), std::nullopt);
  EXPECT_EQ(nearest_key(std::string(100000, 'x'), {"n"}), std::nullopt);
}

TEST(Units, Sizes) {
  EXPECT_EQ(parse_size("4096"), 4096);
  EXPECT_EQ(parse_size("20GiB"), int64_t{20} << 30);
  EXPECT_EQ(parse_size("1.5 TB"), 1500000000000);
  EXPECT_EQ(parse_size("3kB"), 3000);
  for (const char* wrong :
       {"", "G", "20G", "-1B", "1e3", "1..2GB", "20 GiBs", "99999999999TiB", "20gib", "nan"}) {
    EXPECT_EQ(parse_size(wrong), std::nullopt) << wrong;
  }
}

TEST(Units, Durations) {
  EXPECT_EQ(parse_duration("90"), 90.0);
  EXPECT_EQ(parse_duration("90s"), 90.0);
  EXPECT_EQ(parse_duration("2h30m"), 9000.0);
  EXPECT_EQ(parse_duration("1d2h3m4.5s"), 93784.5);
  EXPECT_EQ(parse_duration("1.5h"), 5400.0);
  for (const char* wrong : {"", "s", "h1", "30m2h", "2h2h", "2h30", "-1s", "1 h", "2w", "1e3s"}) {
    EXPECT_EQ(parse_duration(wrong), std::nullopt) << wrong;
  }
}

}  // namespace
}  // namespace nemo
