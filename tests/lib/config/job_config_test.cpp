// Jobs that are right: defaults, every key, overrides, paths, canonical text.
#include "lib/config/job_config.h"

#include <gtest/gtest.h>

#include "lib/config/job_schema.h"
#include "tests/lib/config/testing.h"

namespace nemo {
namespace {

const std::string kRequired = "model: {path: m}\ninput: {path: p.jsonl}\noutput: {path: out}\n";

class JobConfigTest : public testing::Test {
 protected:
  JobConfig load(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    return load_job_config(folder_.write("psalms.yaml", text), overrides);
  }
  TemporaryFolder folder_;
};

TEST_F(JobConfigTest, EveryKeyHasItsDefault) {
  const JobConfig job = load(kRequired);
  EXPECT_EQ(job.name, "psalms");
  EXPECT_EQ(job.task, Task::kGenerate);
  EXPECT_EQ(job.dtype, ActivationType::kBFloat16);
  EXPECT_EQ(job.model_path, folder_ / "m");
  EXPECT_EQ(job.input_paths, (std::vector<std::string>{folder_ / "p.jsonl"}));
  EXPECT_EQ(job.output_path, folder_ / "out");
  EXPECT_EQ(job.sampling, SamplingParams{});
  EXPECT_TRUE(job.write_jsonl && job.write_hdf5);
  EXPECT_FALSE(job.parallel.pipeline || job.parallel.expert || job.parallel.replicas || job.parallel.threads);
  EXPECT_FALSE(job.engine.max_sequences || job.engine.max_batch_tokens || job.engine.prefill_chunk);
  EXPECT_EQ(job.engine.kv_cache_dtype, KvCacheType::kAuto);
  EXPECT_FALSE(job.limits.max_time_s || job.limits.memory_bytes);
  EXPECT_EQ(job.limits.wait_deadline_s, 300.0);
}

TEST_F(JobConfigTest, TheDefaultsOfTheTableAreTheDefaults) {
  std::string text;
  std::string section;
  for (const JobKey& key : job_keys()) {
    const std::string path(key.path);
    const size_t dot = path.find('.');
    if (path == "name") continue;  // its default is the file's name
    if (dot != std::string::npos && path.substr(0, dot) != section) {
      section = path.substr(0, dot);
      text += section + ":\n";
    }
    text += (dot == std::string::npos ? path : "  " + path.substr(dot + 1)) + ": ";
    text += std::string(key.fallback == "required" ? "x" : key.fallback) + "\n";
  }
  const JobConfig given = load(text);
  const JobConfig left_out = load("model: {path: x}\ninput: {path: x}\noutput: {path: x}\n");
  EXPECT_EQ(given.canonical_yaml, left_out.canonical_yaml);
  EXPECT_EQ(given.sampling, left_out.sampling);
  EXPECT_FALSE(given.limits.max_time_s || given.limits.memory_bytes || given.parallel.pipeline);
  EXPECT_EQ(given.limits.wait_deadline_s, left_out.limits.wait_deadline_s);
}

TEST_F(JobConfigTest, QuotesDoNotChangeAWord) {
  const JobConfig job = load(R"(
model: {path: m}
parallel: {pipeline: "auto", threads: 'auto'}
input: {path: a.jsonl}
output: {path: out}
limits: {max_time: "none", memory: "auto"}
)");
  EXPECT_FALSE(job.parallel.pipeline || job.parallel.threads || job.limits.memory_bytes ||
               job.limits.max_time_s);
}

TEST_F(JobConfigTest, ReadsEveryKey) {
  const JobConfig job = load(R"(
name: "two words"
task: score
model: {path: /models/nano, dtype: float32}
parallel: {pipeline: 4, expert: 2, replicas: 1, threads: 8}
input:
  path: [a.jsonl, "/data/*.jsonl.gz"]
output: {path: ../out, formats: [hdf5]}
sampling:
  max_tokens: 7
  min_tokens: 2
  temperature: 0.25
  top_p: 0.5
  top_k: 40
  min_p: 0.125
  n: 3
  seed: 18446744073709551615
  repetition_penalty: 1.5
  frequency_penalty: -0.5
  presence_penalty: 2
  stop: ["\n\n", END, "5"]
  stop_token_ids: [3, 4]
  ignore_eos: true
  logprobs: 5
engine: {max_sequences: 64, max_batch_tokens: 512, prefill_chunk: 256}
limits: {max_time: 2h30m, memory: 20GiB, wait_deadline: 1m30s}
)");
  EXPECT_EQ(job.name, "two words");
  EXPECT_EQ(job.task, Task::kScore);
  EXPECT_EQ(job.model_path, "/models/nano");
  EXPECT_EQ(job.dtype, ActivationType::kFloat32);
  EXPECT_EQ(job.parallel.pipeline, 4);
  EXPECT_EQ(job.parallel.expert, 2);
  EXPECT_EQ(job.parallel.replicas, 1);
  EXPECT_EQ(job.parallel.threads, 8);
  EXPECT_EQ(job.input_paths, (std::vector<std::string>{folder_ / "a.jsonl", "/data/*.jsonl.gz"}));
  EXPECT_EQ(job.output_path, std::filesystem::path(folder_.path()).parent_path() / "out");
  EXPECT_TRUE(job.write_hdf5 && !job.write_jsonl);
  SamplingParams sampling;
  sampling.max_tokens = 7;
  sampling.min_tokens = 2;
  sampling.temperature = 0.25;
  sampling.top_p = 0.5;
  sampling.top_k = 40;
  sampling.min_p = 0.125;
  sampling.n = 3;
  sampling.seed = UINT64_MAX;
  sampling.repetition_penalty = 1.5;
  sampling.frequency_penalty = -0.5;
  sampling.presence_penalty = 2;
  sampling.stop = {"\n\n", "END", "5"};
  sampling.stop_token_ids = {3, 4};
  sampling.ignore_eos = true;
  sampling.logprobs = 5;
  EXPECT_EQ(job.sampling, sampling);
  EXPECT_EQ(job.engine.max_sequences, 64);
  EXPECT_EQ(job.engine.max_batch_tokens, 512);
  EXPECT_EQ(job.engine.prefill_chunk, 256);
  EXPECT_EQ(job.limits.max_time_s, 9000.0);
  EXPECT_EQ(job.limits.memory_bytes, int64_t{20} << 30);
  EXPECT_EQ(job.limits.wait_deadline_s, 90.0);
}

TEST_F(JobConfigTest, OverridesWinAndLaterOnesWinOverEarlier) {
  const JobConfig job = load(kRequired + "sampling: {temperature: wrong but overridden}\n",
                             {"sampling.temperature=0.5", "sampling.temperature=0.75",
                              "output.formats=[jsonl]", "model.path=/elsewhere", "input.path=[b.jsonl]",
                              "name=x=y", "limits={max_time: 90s, memory: 1.5GiB}"});
  EXPECT_EQ(job.sampling.temperature, 0.75);
  EXPECT_FALSE(job.write_hdf5);
  EXPECT_EQ(job.model_path, "/elsewhere");
  EXPECT_EQ(job.input_paths, (std::vector<std::string>{folder_ / "b.jsonl"}));
  EXPECT_EQ(job.name, "x=y");
  EXPECT_EQ(job.limits.max_time_s, 90.0);
  EXPECT_EQ(job.limits.memory_bytes, int64_t{3} << 29);
}

TEST_F(JobConfigTest, OverridesMayGiveWhatTheFileLeavesOut) {
  const JobConfig job = load("# nothing\n", {"model.path=m", "input.path=p", "output.path=o"});
  EXPECT_EQ(job.output_path, folder_ / "o");
}

TEST_F(JobConfigTest, AnEmptySectionHasItsDefaults) {
  EXPECT_EQ(load(kRequired + "sampling:\nengine:\n").sampling, SamplingParams{});
  EXPECT_EQ(load(kRequired + "limits: {max_time: null}\n").limits.max_time_s, std::nullopt);
}

TEST_F(JobConfigTest, CanonicalTextHasWhatDecidesResults) {
  const JobConfig job = load(kRequired + "sampling: {temperature: 0.70, stop: [\"a\\nb\"]}\n");
  EXPECT_EQ(job.canonical_yaml,
            "task: generate\nmodel:\n  dtype: bfloat16\nsampling:\n  max_tokens: 256\n  min_tokens: 0\n"
            "  temperature: 0.7\n  top_p: 1\n  top_k: 0\n  min_p: 0\n  n: 1\n  seed: 0\n"
            "  repetition_penalty: 1\n  frequency_penalty: 0\n  presence_penalty: 0\n  stop: [\"a\\nb\"]\n"
            "  stop_token_ids: []\n  ignore_eos: false\n  logprobs: 0\n"
            "engine:\n  kv_cache_dtype: auto\n");
  const std::string other = kRequired +
                            "name: other\nlimits: {max_time: 1h}\nparallel: {pipeline: 3}\n"
                            "sampling: {stop: [\"a\\nb\"], temperature: 7e-1}\n";
  EXPECT_EQ(load(other).canonical_yaml, job.canonical_yaml);
  EXPECT_NE(load(kRequired).canonical_yaml, job.canonical_yaml);
  EXPECT_NE(load(other, {"engine.kv_cache_dtype=fp8"}).canonical_yaml, job.canonical_yaml);
}

// A folder that moved, or a job started from elsewhere, resumes; what model and input contain has
// fingerprints.
TEST_F(JobConfigTest, CanonicalTextHasNoPaths) {
  const JobConfig job = load(kRequired);
  EXPECT_EQ(load(kRequired, {"model.path=/moved", "input.path=/elsewhere/p.jsonl", "output.path=/there"})
                .canonical_yaml,
            job.canonical_yaml);
}

TEST_F(JobConfigTest, HelpNamesEveryKey) {
  const std::string help = describe_job_keys();
  for (const JobKey& key : job_keys())
    EXPECT_NE(help.find(std::string(key.path) + " "), std::string::npos) << key.path;
}

TEST(ExampleJobs, AreRight) {
  for (const auto& entry : std::filesystem::directory_iterator(source_path("configs/jobs"))) {
    if (entry.path().extension() != ".yaml") continue;
    const JobConfig job = load_job_config(entry.path().string(), {});
    EXPECT_TRUE(std::filesystem::is_directory(job.model_path)) << entry.path() << ": " << job.model_path;
  }
}

TEST(ExampleJobs, QuickstartHasItsPrompts) {
  const JobConfig job = load_job_config(source_path("configs/jobs/quickstart.yaml"), {});
  ASSERT_EQ(job.input_paths.size(), 1u);
  EXPECT_TRUE(std::filesystem::exists(job.input_paths[0]));
}

}  // namespace
}  // namespace nemo
