// What the tests of the output share: a temporary folder, files as strings, records made from a seed.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "kernels/error.h"
#include "lib/request/request.h"

namespace nemo::test {

/// Removed, with all that is in it, at the end of the test.
class TempFolder {
 public:
  TempFolder() {
    // In memory where there is such a file system: some tests sync thousands of times.
    const bool has_memory = access("/dev/shm", W_OK) == 0;
    const std::filesystem::path parent = has_memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string name = (parent / "nemo-output-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw Error("no temporary folder");
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error("cannot read " + path);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
  if (!file.flush()) throw Error("cannot write " + path);
}

/// The text of the Error that `action` throws; empty if it throws none.
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class RecordMaker {
 public:
  explicit RecordMaker(uint64_t seed) : random_(seed) {}

  int64_t up_to(int64_t last) { return std::uniform_int_distribution<int64_t>(0, last)(random_); }
  float logprob() { return -std::exponential_distribution<float>(1.0f)(random_); }

  std::string text(int64_t max_pieces) {
    static const std::string pieces[] = {"a", "Psalm ", "\"", "\\",   "\n", "\x01",
                                         "é", "中",     "😀",  "\x7f", "/"};
    std::string made;
    for (int64_t i = up_to(max_pieces); i > 0; --i) made += pieces[up_to(10)];
    return made;
  }

  Output output(int64_t max_tokens, int64_t top_k) {
    Output made;
    made.text = text(max_tokens * 3);
    for (int64_t i = up_to(max_tokens); i > 0; --i) {
      made.token_ids.push_back(static_cast<int32_t>(up_to(131071)));
      if (top_k == 0) continue;
      made.logprobs.push_back(logprob());
      auto& top = made.top_logprobs.emplace_back();
      for (int64_t k = 0; k < top_k; ++k) top.push_back({static_cast<int32_t>(up_to(131071)), logprob()});
    }
    made.finish_reason = up_to(1) == 0 ? "stop" : "length";
    return made;
  }

  Record generated(int64_t index, int64_t num_outputs = 1, int64_t top_k = 0) {
    Record record;
    record.index = index;
    record.id = "id-" + std::to_string(index);
    record.num_prompt_tokens = up_to(1000);
    for (int64_t i = 0; i < num_outputs; ++i) record.outputs.push_back(output(20, top_k));
    if (up_to(3) == 0) record.metadata_json = R"({"source":"wiki","row":)" + std::to_string(index) + "}";
    return record;
  }

  Record scored(int64_t index) {
    Record record;
    record.index = index;
    record.id = "id-" + std::to_string(index);
    record.task = Task::kScore;
    record.num_prompt_tokens = up_to(1000);
    Score& score = record.score.emplace();
    for (int64_t i = up_to(20); i > 0; --i) {
      score.token_ids.push_back(static_cast<int32_t>(up_to(131071)));
      score.logprobs.push_back(logprob());
      score.sum_logprob += score.logprobs.back();
    }
    score.is_greedy = up_to(1) == 0;
    return record;
  }

  Record failed(int64_t index) {
    Record record;
    record.index = index;
    record.id = "id-" + std::to_string(index);
    record.error = RequestError{"prompt_too_long", "the prompt has 9 tokens, \"8\" fit"};
    return record;
  }

  /// Any of the three.
  Record any(int64_t index) {
    switch (up_to(5)) {
      case 0:
        return failed(index);
      case 1:
        return scored(index);
      default:
        return generated(index, 1 + up_to(2), up_to(3));
    }
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace nemo::test
