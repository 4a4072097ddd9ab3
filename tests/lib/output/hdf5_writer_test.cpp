// results.h5, read back with HDF5 and with h5py.
#include <gtest/gtest.h>
#include <hdf5/serial/hdf5.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>

#include "kernels/error.h"
#include "tests/lib/output/results_fixtures.h"

namespace nemo {
namespace {

using namespace test;

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
