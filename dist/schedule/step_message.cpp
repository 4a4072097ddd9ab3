#include "dist/schedule/step_message.h"

#include "lib/request/request_fields.h"

namespace nemo {

template <Fields<SamplingKey> T, class Codec>
void each_field(T& k, Codec& codec) {
  codec(k.params, k.request_hash, k.sample, k.num_prompt_tokens, k.end_token_ids);
}
template <Fields<SampledToken> T, class Codec>
void each_field(T& s, Codec& codec) {
  codec(s.token_id, s.logprob, s.top);
}

}  // namespace nemo

namespace nemo::dist {

template <Fields<StepSegment> T, class Codec>
void each_field(T& s, Codec& codec) {
  codec(s.slot, s.position, s.token_ids, s.new_pages, s.fork_of, s.start, s.sample, s.targets);
}
template <Fields<StepMessage> T, class Codec>
void each_field(T& m, Codec& codec) {
  codec(m.step, m.stop, m.segments);
}
template <Fields<SegmentResult> T, class Codec>
void each_field(T& s, Codec& codec) {
  codec(s.slot, s.sampled, s.target_logprobs, s.target_is_argmax);
}
template <Fields<StepResult> T, class Codec>
void each_field(T& r, Codec& codec) {
  codec(r.step, r.segments);
}

namespace {

constexpr uint8_t kMessageKind = 'M';
constexpr uint8_t kResultKind = 'A';
constexpr uint8_t kVersion = 2;
constexpr ByteReader::Origin kOrigin = {"step message", "all ranks must run the same build"};

[[noreturn]] void fail(const std::string& what) {
  throw Error(kOrigin.what, "its bytes cannot be read: " + what, kOrigin.remedy);
}

void check_ids(const std::vector<int32_t>& ids, int32_t lowest, const char* what) {
  for (const int32_t id : ids) {
    if (id < lowest) fail(std::string(what) + " " + std::to_string(id));
  }
}

void check(const StepSegment& segment) {
  if (segment.slot < 0) fail("slot " + std::to_string(segment.slot));
  if (segment.position < 0) fail("position " + std::to_string(segment.position));
  if (segment.token_ids.empty()) fail("a segment without rows");
  if (segment.start && segment.position != 0 && !segment.fork_of)
    fail("a start at position " + std::to_string(segment.position));
  if (segment.fork_of && (*segment.fork_of < 0 || *segment.fork_of == segment.slot || segment.position == 0))
    fail("slot " + std::to_string(segment.slot) + " forks slot " + std::to_string(*segment.fork_of) +
         " at position " + std::to_string(segment.position));
  if (!segment.targets.empty() && segment.targets.size() != segment.token_ids.size()) {
    fail(std::to_string(segment.targets.size()) + " targets for " + std::to_string(segment.token_ids.size()) +
         " rows");
  }
  check_ids(segment.token_ids, 0, "token");
  check_ids(segment.new_pages, 0, "page");
  check_ids(segment.targets, -1, "target");
}

void check(const SegmentResult& result) {
  if (result.slot < 0) fail("slot " + std::to_string(result.slot));
  if (result.sampled && result.sampled->token_id < 0)
    fail("token " + std::to_string(result.sampled->token_id));
  if (result.target_logprobs.size() != result.target_is_argmax.size()) fail("targets of two lengths");
  for (const uint8_t flag : result.target_is_argmax) {
    if (flag > 1) fail("a choice of " + std::to_string(flag) + " is unknown");
  }
}

}  // namespace

int64_t StepMessage::num_rows() const {
  int64_t rows = 0;
  for (const StepSegment& segment : segments) rows += static_cast<int64_t>(segment.token_ids.size());
  return rows;
}

std::string to_bytes(const StepMessage& message) {
  return encode(kMessageKind, kVersion, message);
}
std::string to_bytes(const StepResult& result) {
  return encode(kResultKind, kVersion, result);
}

StepMessage step_message_from_bytes(std::string_view bytes) {
  auto message = decode<StepMessage>(kMessageKind, kVersion, bytes, kOrigin);
  for (const StepSegment& segment : message.segments) check(segment);
  return message;
}

StepResult step_result_from_bytes(std::string_view bytes) {
  auto result = decode<StepResult>(kResultKind, kVersion, bytes, kOrigin);
  for (const SegmentResult& segment : result.segments) check(segment);
  return result;
}

}  // namespace nemo::dist
