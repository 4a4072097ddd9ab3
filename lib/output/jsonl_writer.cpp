#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "lib/output/files.h"
#include "lib/output/json_line.h"
#include "lib/output/openai_line.h"
#include "lib/output/results.h"

namespace nemo {
namespace {

class JsonlWriter final : public ResultWriter {
 public:
  JsonlWriter(const std::string& path, const ResultOptions& options) : options_(options), file_(path) {}

  void add(const Record& record) override {
    if (columns().task == Task::kGenerate && record.form != LineForm::kPlain) {
      append_openai_line(json_, record, options_.model, options_.token_bytes);
    } else {
      append_plain_line(record);
    }
    file_.write(json_.take_line());
  }

  void publish() override { file_.publish(); }

 private:
  const ResultColumns& columns() const { return options_.columns; }

  void append_plain_line(const Record& record) {
    json_.begin_object().key("id").value(record.id).key("index").value(record.index);
    if (columns().task == Task::kScore) {
      append_score(record);
    } else if (columns().several_outputs) {
      append_outputs(record);
    } else {
      NEMO_CHECK(record.outputs.size() <= 1,
                 "request " + std::to_string(record.index) + " has several outputs");
      append_output(record.outputs.empty() ? nullptr : &record.outputs.front(), &record.num_prompt_tokens);
    }
    append_error(record);
    if (columns().metadata) append_metadata(record);
    json_.end_object();
  }

  void append_outputs(const Record& record) {
    json_.key("num_prompt_tokens").value(record.num_prompt_tokens);
    json_.key("outputs");
    if (record.outputs.empty()) {
      json_.null();
      return;
    }
    json_.begin_array();
    for (const Output& output : record.outputs) {
      json_.begin_object();
      append_output(&output, nullptr);
      json_.end_object();
    }
    json_.end_array();
  }

  // The columns of one output; null values for no output. `num_prompt_tokens` is in the middle of them in a
  // flat line.
  void append_output(const Output* output, const int64_t* num_prompt_tokens) {
    const auto column = [this, output](const char* name, auto field) {
      json_.key(name);
      if (output == nullptr) {
        json_.null();
      } else {
        field(*output);
      }
    };
    column("text", [this](const Output& o) { json_.value(o.text); });
    column("token_ids", [this](const Output& o) { json_.value(o.token_ids); });
    column("finish_reason", [this](const Output& o) { json_.value(o.finish_reason); });
    if (num_prompt_tokens != nullptr) json_.key("num_prompt_tokens").value(*num_prompt_tokens);
    column("num_tokens", [this](const Output& o) { json_.value(static_cast<int64_t>(o.token_ids.size())); });
    if (columns().logprobs) column("logprobs", [this](const Output& o) { append_logprobs(o); });
    if (columns().top_k > 0) column("top_logprobs", [this](const Output& o) { append_top_logprobs(o); });
  }

  // A line that asked for none, in a file that has the column, has null: an empty list would claim there are
  // no tokens.
  void append_logprobs(const Output& output) {
    if (output.logprobs.empty() && !output.token_ids.empty()) {
      json_.null();
    } else {
      json_.value(output.logprobs);
    }
  }

  void append_top_logprobs(const Output& output) {
    if (output.top_logprobs.empty() && !output.token_ids.empty()) {
      json_.null();
      return;
    }
    json_.begin_array();
    for (const auto& top : output.top_logprobs) {
      json_.begin_array();
      for (const TokenLogprob& token : top) {
        json_.begin_object()
            .key("token_id")
            .value(token.token_id)
            .key("logprob")
            .value(token.logprob)
            .end_object();
      }
      json_.end_array();
    }
    json_.end_array();
  }

  void append_score(const Record& record) {
    const Score* score = record.score ? &*record.score : nullptr;
    const auto column = [this, score](const char* name, auto field) {
      json_.key(name);
      if (score == nullptr) {
        json_.null();
      } else {
        json_.value(field(*score));
      }
    };
    column("sum_logprob", [](const Score& s) { return s.sum_logprob; });
    column("is_greedy", [](const Score& s) { return s.is_greedy; });
    json_.key("num_prompt_tokens").value(record.num_prompt_tokens);
    column("num_tokens", [](const Score& s) { return static_cast<int64_t>(s.token_ids.size()); });
    column(
        "token_ids", [](const Score& s) -> const auto& { return s.token_ids; });
    column(
        "logprobs", [](const Score& s) -> const auto& { return s.logprobs; });
  }

  void append_error(const Record& record) {
    json_.key("error");
    if (!record.error) {
      json_.null();
      return;
    }
    json_.begin_object().key("code").value(record.error->code);
    json_.key("message").value(record.error->message).end_object();
  }

  void append_metadata(const Record& record) {
    json_.key("metadata");
    if (record.metadata_json.empty()) {
      json_.null();
      return;
    }
    NEMO_CHECK(nlohmann::json::accept(record.metadata_json),
               "metadata of request " + std::to_string(record.index) + " is not JSON");
    json_.verbatim(record.metadata_json);
  }

  ResultOptions options_;
  AtomicFile file_;
  JsonLine json_;
};

}  // namespace

std::unique_ptr<ResultWriter> make_jsonl_writer(const std::string& path, const ResultOptions& options) {
  return std::make_unique<JsonlWriter>(path, options);
}

}  // namespace nemo
