#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error.h"
#include "lib/output/files.h"
#include "lib/output/hdf5_file.h"
#include "lib/output/results.h"
#include "lib/request/fingerprint.h"

namespace nemo {
namespace {

constexpr int64_t kSchemaVersion = 1;
constexpr int64_t kIndexChunkBytes = 64 << 10;
constexpr int64_t kDataChunkBytes = 256 << 10;
constexpr int64_t kTopKChunkBytes = 512 << 10;
// An attribute is part of an object's header, which has 64 KiB at most.
constexpr size_t kMaxAttributeBytes = 4096;

const std::vector<std::string> kFinishReasons = {"none", "stop", "length", "error", "other"};

uint8_t finish_code(const std::string& reason) {
  if (reason.empty()) return 0;
  const auto found = std::find(kFinishReasons.begin(), kFinishReasons.end(), reason);
  return static_cast<uint8_t>(std::min<std::ptrdiff_t>(found - kFinishReasons.begin(), 4));
}

// A column of lists: `data` end to end and `offsets`, where list r is data[offsets[r] : offsets[r + 1]].
class ListColumn {
 public:
  ListColumn(const Hdf5File& file, const std::string& name, hid_t type)
      : data_(file, name + "/data", type, 0, kDataChunkBytes),
        offsets_(file, name + "/offsets", H5T_STD_I64LE, 0, kIndexChunkBytes) {
    append(nullptr, 0);
  }

  void append(const void* elements, size_t num_elements) {
    data_.append(elements, static_cast<int64_t>(num_elements));
    end_ += static_cast<int64_t>(num_elements);
    offsets_.append(&end_, 1);
  }
  void append(const std::string& text) { append(text.data(), text.size()); }
  template <class T>
  void append(const std::vector<T>& values) {
    append(values.data(), values.size());
  }
  void finish() {
    data_.finish();
    offsets_.finish();
  }

 private:
  Hdf5Column data_;
  Hdf5Column offsets_;
  int64_t end_ = 0;
};

// All columns. Order of members is order of creation, and so part of the bytes.
class Columns {
 public:
  Columns(const Hdf5File& file, const ResultColumns& columns)
      : tokens_(file, "/tokens", H5T_STD_I32LE),
        text_(file, "/text", H5T_STD_U8LE),
        request_(file, "/index/request", H5T_STD_I64LE, 0, kIndexChunkBytes),
        sample_(file, "/index/sample", H5T_STD_I32LE, 0, kIndexChunkBytes),
        finish_reason_(file, "/index/finish_reason", H5T_STD_U8LE, 0, kIndexChunkBytes),
        num_prompt_tokens_(file, "/index/num_prompt_tokens", H5T_STD_I64LE, 0, kIndexChunkBytes),
        num_tokens_(file, "/index/num_tokens", H5T_STD_I64LE, 0, kIndexChunkBytes),
        id_(file, "/index/id", H5T_STD_U8LE),
        error_code_(file, "/index/error_code", H5T_STD_U8LE),
        error_message_(file, "/index/error_message", H5T_STD_U8LE),
        metadata_(file, "/index/metadata", H5T_STD_U8LE),
        top_k_(columns.top_k) {
    if (columns.logprobs) logprobs_.emplace(file, "/logprobs", H5T_IEEE_F32LE);
    if (top_k_ > 0) {
      top_ids_.emplace(file, "/topk/ids", H5T_STD_I32LE, top_k_, kTopKChunkBytes);
      top_logprobs_.emplace(file, "/topk/logprobs", H5T_IEEE_F32LE, top_k_, kTopKChunkBytes);
    }
    if (columns.task == Task::kScore) {
      sum_logprob_.emplace(file, "/index/sum_logprob", H5T_IEEE_F64LE, 0, kIndexChunkBytes);
      is_greedy_.emplace(file, "/index/is_greedy", H5T_STD_U8LE, 0, kIndexChunkBytes);
    }
  }

  void append(const Record& record, int32_t sample, const Output& output) {
    tokens_.append(output.token_ids);
    text_.append(output.text);
    append_index(record, sample, output);
    if (logprobs_) logprobs_->append(output.logprobs);
    if (top_k_ > 0) append_top(output);
    if (sum_logprob_) append_score(record);
  }

  void finish() {
    for (ListColumn* list : {&tokens_, &text_, &id_, &error_code_, &error_message_, &metadata_})
      list->finish();
    for (Hdf5Column* column : {&request_, &sample_, &finish_reason_, &num_prompt_tokens_, &num_tokens_}) {
      column->finish();
    }
    if (logprobs_) logprobs_->finish();
    for (auto* column : {&top_ids_, &top_logprobs_, &sum_logprob_, &is_greedy_}) {
      if (*column) (*column)->finish();
    }
  }

 private:
  void append_index(const Record& record, int32_t sample, const Output& output) {
    const uint8_t finish = record.error ? finish_code("error") : finish_code(output.finish_reason);
    const auto num_tokens = static_cast<int64_t>(output.token_ids.size());
    request_.append(&record.index, 1);
    sample_.append(&sample, 1);
    finish_reason_.append(&finish, 1);
    num_prompt_tokens_.append(&record.num_prompt_tokens, 1);
    num_tokens_.append(&num_tokens, 1);
    id_.append(record.id);
    error_code_.append(record.error ? record.error->code : "");
    error_message_.append(record.error ? record.error->message : "");
    metadata_.append(record.metadata_json);
  }

  // One row of width k for every token, so that row t belongs to /tokens/data[t].
  void append_top(const Output& output) {
    std::vector<int32_t> ids(static_cast<size_t>(top_k_));
    std::vector<float> logprobs(static_cast<size_t>(top_k_));
    for (size_t token = 0; token < output.token_ids.size(); ++token) {
      std::fill(ids.begin(), ids.end(), -1);
      std::fill(logprobs.begin(), logprobs.end(), std::numeric_limits<float>::quiet_NaN());
      if (token < output.top_logprobs.size()) {
        const auto& top = output.top_logprobs[token];
        NEMO_CHECK(top.size() <= ids.size(), std::to_string(top.size()) + " logprobs for one token");
        for (size_t rank = 0; rank < top.size(); ++rank) {
          ids[rank] = top[rank].token_id;
          logprobs[rank] = top[rank].logprob;
        }
      }
      top_ids_->append(ids.data(), 1);
      top_logprobs_->append(logprobs.data(), 1);
    }
  }

  void append_score(const Record& record) {
    const double sum = record.score ? record.score->sum_logprob : std::numeric_limits<double>::quiet_NaN();
    const uint8_t is_greedy = record.score && record.score->is_greedy;
    sum_logprob_->append(&sum, 1);
    is_greedy_->append(&is_greedy, 1);
  }

  ListColumn tokens_;
  ListColumn text_;
  Hdf5Column request_;
  Hdf5Column sample_;
  Hdf5Column finish_reason_;
  Hdf5Column num_prompt_tokens_;
  Hdf5Column num_tokens_;
  ListColumn id_;
  ListColumn error_code_;
  ListColumn error_message_;
  ListColumn metadata_;
  int64_t top_k_;
  std::optional<ListColumn> logprobs_;
  std::optional<Hdf5Column> top_ids_;
  std::optional<Hdf5Column> top_logprobs_;
  std::optional<Hdf5Column> sum_logprob_;
  std::optional<Hdf5Column> is_greedy_;
};

// Removes the unfinished file unless told that it has become the result.
class PartialFile {
 public:
  explicit PartialFile(std::string path) : path_(std::move(path)) {}
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  ~PartialFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }
  void keep() { path_.clear(); }

 private:
  std::string path_;
};

class Hdf5Writer final : public ResultWriter {
 public:
  Hdf5Writer(const std::string& path, const ResultOptions& options)
      : path_(path), partial_(AtomicFile::partial_path(path)), file_(partial_.path()) {
    columns_.emplace(file_, options.columns);
    write_attributes(options);
  }

  void add(const Record& record) override {
    const Hdf5Quiet quiet;
    if (record.score) {
      Output scored;
      scored.token_ids = record.score->token_ids;
      scored.logprobs = record.score->logprobs;
      columns_->append(record, 0, scored);
      return;
    }
    if (record.outputs.empty()) columns_->append(record, 0, {});
    for (size_t sample = 0; sample < record.outputs.size(); ++sample) {
      columns_->append(record, static_cast<int32_t>(sample), record.outputs[sample]);
    }
  }

  void publish() override {
    const Hdf5Quiet quiet;
    columns_->finish();
    columns_.reset();
    file_.close();
    AtomicFile::publish_partial(path_);
    partial_.keep();
  }

 private:
  void write_attributes(const ResultOptions& options) {
    file_.set_attribute("/", "schema_version", kSchemaVersion);
    file_.set_attribute("/", "task",
                        std::string(options.columns.task == Task::kScore ? "score" : "generate"));
    for (const auto& [name, value] : options.fingerprints) {
      file_.set_attribute(
          "/", "fingerprint:" + name,
          value.size() <= kMaxAttributeBytes ? value : "xxh3-128:" + fingerprint_bytes(value));
    }
    file_.set_attribute("/index/finish_reason", "values", kFinishReasons);
  }

  std::string path_;
  PartialFile partial_;
  Hdf5File file_;
  std::optional<Columns> columns_;
};

}  // namespace

std::unique_ptr<ResultWriter> make_hdf5_writer(const std::string& path, const ResultOptions& options) {
  const Hdf5Quiet quiet;
  return std::make_unique<Hdf5Writer>(path, options);
}

}  // namespace nemo
