#include "dist/schedule/step_message.h"

#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/error.h"

namespace nemo::dist {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the byte form is the memory form of little-endian hosts");

constexpr uint8_t kMessageKind = 'M';
constexpr uint8_t kResultKind = 'A';
constexpr uint8_t kVersion = 1;

// Fixed-width fields one after the other; a 4-byte count before strings and arrays, a byte before what may be
// absent. Writer and Reader have the same operator(), so that each type has one list of its fields for both
// directions.
class Writer {
 public:
  template <class... Fields>
  void operator()(const Fields&... fields) {
    (put(fields), ...);
  }
  std::string take() { return std::move(bytes_); }

 private:
  template <class T>
  void put(const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      bytes_ += value ? '\1' : '\0';
    } else if constexpr (std::is_arithmetic_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    } else {
      each_field(value, *this);
    }
  }
  void put(const std::string& text) {
    put_count(text.size());
    bytes_ += text;
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put_count(values.size());
    if constexpr (std::is_arithmetic_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    } else {
      for (const T& value : values) put(value);
    }
  }
  template <class T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }
  void put_count(size_t count) {
    NEMO_CHECK(count <= std::numeric_limits<uint32_t>::max(),
               std::to_string(count) + " elements in one step");
    put(static_cast<uint32_t>(count));
  }

  std::string bytes_;
};

[[noreturn]] void fail(const std::string& what) {
  throw Error("step message", "its bytes cannot be read: " + what, "all ranks must run the same build");
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <class... Fields>
  void operator()(Fields&... fields) {
    (get(fields), ...);
  }
  void finish() const {
    if (!bytes_.empty()) fail(std::to_string(bytes_.size()) + " bytes left over");
  }

 private:
  template <class T>
  void get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      uint8_t byte = 0;
      get(byte);
      if (byte > 1) fail("a choice of " + std::to_string(byte) + " is unknown");
      value = byte == 1;
    } else if constexpr (std::is_arithmetic_v<T>) {
      std::memcpy(&value, take(sizeof value).data(), sizeof value);
    } else {
      each_field(value, *this);
    }
  }
  void get(std::string& text) {
    const size_t size = get_count();
    text.assign(take(size));
  }
  // Memory is taken only as elements are found, so that a false count costs nothing.
  template <class T>
  void get(std::vector<T>& values) {
    const size_t count = get_count();
    if constexpr (std::is_arithmetic_v<T>) {
      const std::string_view raw = take(count * sizeof(T));
      values.resize(count);
      if (!raw.empty()) std::memcpy(values.data(), raw.data(), raw.size());
    } else {
      for (size_t i = 0; i < count; ++i) get(values.emplace_back());
    }
  }
  template <class T>
  void get(std::optional<T>& value) {
    bool present = false;
    get(present);
    if (present) get(value.emplace());
  }
  size_t get_count() {
    uint32_t count = 0;
    get(count);
    return count;
  }
  std::string_view take(size_t size) {
    if (size > bytes_.size()) fail("they end too early");
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
};

// The fields of each type; `T` is const for writing.
template <class T, class Field>
concept MaybeConst = std::is_same_v<std::remove_const_t<T>, Field>;

template <MaybeConst<SamplingParams> T, class Codec>
void each_field(T& p, Codec& codec) {
  codec(p.max_tokens, p.min_tokens, p.temperature, p.top_p, p.top_k, p.min_p, p.n, p.seed,
        p.repetition_penalty, p.frequency_penalty, p.presence_penalty, p.stop, p.stop_token_ids, p.ignore_eos,
        p.logprobs);
}
template <MaybeConst<SamplingKey> T, class Codec>
void each_field(T& k, Codec& codec) {
  codec(k.params, k.request_hash, k.sample, k.num_prompt_tokens, k.end_token_ids);
}
template <MaybeConst<TokenLogprob> T, class Codec>
void each_field(T& t, Codec& codec) {
  codec(t.token_id, t.logprob);
}
template <MaybeConst<SampledToken> T, class Codec>
void each_field(T& s, Codec& codec) {
  codec(s.token_id, s.logprob, s.top);
}
template <MaybeConst<StepSegment> T, class Codec>
void each_field(T& s, Codec& codec) {
  codec(s.slot, s.position, s.token_ids, s.new_pages, s.start, s.sample, s.targets);
}
template <MaybeConst<StepMessage> T, class Codec>
void each_field(T& m, Codec& codec) {
  codec(m.step, m.stop, m.segments);
}
template <MaybeConst<SegmentResult> T, class Codec>
void each_field(T& s, Codec& codec) {
  codec(s.slot, s.sampled, s.target_logprobs, s.target_is_argmax);
}
template <MaybeConst<StepResult> T, class Codec>
void each_field(T& r, Codec& codec) {
  codec(r.step, r.segments);
}

template <class T>
std::string encode(uint8_t kind, const T& value) {
  Writer writer;
  writer(kind, kVersion, value);
  return writer.take();
}

template <class T>
T decode(uint8_t kind, std::string_view bytes) {
  Reader reader(bytes);
  uint8_t found_kind = 0, version = 0;
  reader(found_kind, version);
  if (found_kind != kind) fail("another kind of message");
  if (version != kVersion) fail("version " + std::to_string(version));
  T value;
  reader(value);
  reader.finish();
  return value;
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
  if (segment.start && segment.position != 0) fail("a start at position " + std::to_string(segment.position));
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
  return encode(kMessageKind, message);
}
std::string to_bytes(const StepResult& result) {
  return encode(kResultKind, result);
}

StepMessage step_message_from_bytes(std::string_view bytes) {
  auto message = decode<StepMessage>(kMessageKind, bytes);
  for (const StepSegment& segment : message.segments) check(segment);
  return message;
}

StepResult step_result_from_bytes(std::string_view bytes) {
  auto result = decode<StepResult>(kResultKind, bytes);
  for (const SegmentResult& segment : result.segments) check(segment);
  return result;
}

}  // namespace nemo::dist
