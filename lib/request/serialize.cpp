#include "lib/request/serialize.h"

#include "lib/request/request_fields.h"

namespace nemo {

template <>
inline constexpr Task kLastOf<Task> = Task::kScore;
template <>
inline constexpr LineForm kLastOf<LineForm> = LineForm::kOpenAiCompletion;

template <Fields<Output> T, class Codec>
void each_field(T& o, Codec& codec) {
  codec(o.text, o.token_ids, o.logprobs, o.top_logprobs, o.finish_reason);
}
template <Fields<Score> T, class Codec>
void each_field(T& s, Codec& codec) {
  codec(s.sum_logprob, s.is_greedy, s.token_ids, s.logprobs);
}
template <Fields<RequestError> T, class Codec>
void each_field(T& e, Codec& codec) {
  codec(e.code, e.message);
}
template <Fields<Request> T, class Codec>
void each_field(T& r, Codec& codec) {
  codec(r.index, r.id, r.task, r.form, r.prompt_ids, r.continuation_ids, r.sampling, r.metadata_json,
        r.prior_outputs);
}
template <Fields<Record> T, class Codec>
void each_field(T& r, Codec& codec) {
  codec(r.index, r.id, r.task, r.form, r.num_prompt_tokens, r.outputs, r.score, r.error, r.metadata_json);
}
template <Fields<SampleProgress> T, class Codec>
void each_field(T& p, Codec& codec) {
  codec(p.index, p.sample, p.output);
}

namespace {

constexpr uint8_t kRequestKind = 'Q';
constexpr uint8_t kRecordKind = 'R';
constexpr uint8_t kProgressKind = 'P';
constexpr uint8_t kVersion = 1;
constexpr ByteReader::Origin kOrigin = {
    "request or record",
    "all ranks and the journal must come from the same build; else the data are damaged"};

}  // namespace

std::string to_bytes(const Request& request) {
  return encode(kRequestKind, kVersion, request);
}
std::string to_bytes(const Record& record) {
  return encode(kRecordKind, kVersion, record);
}
std::string to_bytes(const SampleProgress& progress) {
  return encode(kProgressKind, kVersion, progress);
}
Request request_from_bytes(std::string_view bytes) {
  return decode<Request>(kRequestKind, kVersion, bytes, kOrigin);
}
Record record_from_bytes(std::string_view bytes) {
  return decode<Record>(kRecordKind, kVersion, bytes, kOrigin);
}
SampleProgress sample_progress_from_bytes(std::string_view bytes) {
  return decode<SampleProgress>(kProgressKind, kVersion, bytes, kOrigin);
}

}  // namespace nemo
