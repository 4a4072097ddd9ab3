#include "lib/request/serialize.h"

#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/error.h"

namespace nemo {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the byte form is the memory form of little-endian hosts");
static_assert(sizeof(TokenLogprob) == 8, "token id and logprob are written as they lie in memory");

constexpr uint8_t kRequestKind = 'Q';
constexpr uint8_t kRecordKind = 'R';
constexpr uint8_t kProgressKind = 'P';
constexpr uint8_t kVersion = 1;

class ByteWriter {
 public:
  explicit ByteWriter(uint8_t kind) {
    put(kind);
    put(kVersion);
  }

  template <class T>
  void put(T value) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put(bool value) { put(static_cast<uint8_t>(value)); }
  void put(Task value) { put(static_cast<uint8_t>(value)); }
  void put(LineForm value) { put(static_cast<uint8_t>(value)); }

  void put(const std::string& text) {
    put_count(text.size());
    bytes_ += text;
  }
  template <class T>
  void put(const std::vector<T>& values) {
    put_count(values.size());
    if constexpr (std::is_trivially_copyable_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    } else {
      for (const T& value : values) put(value);
    }
  }

  void put(const SamplingParams& p);
  void put(const Output& output);
  void put(const Score& score);
  void put(const RequestError& error);
  template <class T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }

  std::string take() { return std::move(bytes_); }

 private:
  void put_count(size_t count) {
    if (count > std::numeric_limits<uint32_t>::max()) {
      throw Error("request",
                  "a text or list of " + std::to_string(count) + " elements is too long to be sent",
                  "ask for fewer tokens, samples or logprobs in one request");
    }
    put(static_cast<uint32_t>(count));
  }

  std::string bytes_;
};

class ByteReader {
 public:
  ByteReader(std::string_view bytes, uint8_t kind) : bytes_(bytes) {
    if (get<uint8_t>() != kind) fail("another kind of value");
    const auto version = get<uint8_t>();
    if (version != kVersion) fail("version " + std::to_string(version));
  }

  void get(std::string& text) {
    const size_t size = get_count(1);
    text.assign(take(size));
  }
  void get(bool& value) { value = get_up_to(1) != 0; }
  void get(Task& value) { value = static_cast<Task>(get_up_to(static_cast<uint8_t>(Task::kScore))); }
  void get(LineForm& value) {
    value = static_cast<LineForm>(get_up_to(static_cast<uint8_t>(LineForm::kOpenAiCompletion)));
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void get(T& value) { std::memcpy(&value, take(sizeof value).data(), sizeof value); }
  template <class T>
  void get(std::vector<T>& values) {
    values.resize(get_count(min_bytes<T>()));
    if constexpr (std::is_trivially_copyable_v<T>) {
      const std::string_view raw = take(values.size() * sizeof(T));
      if (!raw.empty()) std::memcpy(values.data(), raw.data(), raw.size());
    } else {
      for (T& value : values) get(value);
    }
  }
  template <class T>
  void get(std::optional<T>& value) {
    if (get_up_to(1) != 0) get(value.emplace());
  }

  void get(SamplingParams& p);
  void get(Output& output);
  void get(Score& score);
  void get(RequestError& error);

  void finish() const {
    if (!bytes_.empty()) fail(std::to_string(bytes_.size()) + " bytes left over");
  }

 private:
  template <class T>
  T get() {
    T value;
    get(value);
    return value;
  }

  // The fewest bytes one element takes, so that a count can be checked against what is left before memory is
  // taken.
  template <class T>
  static constexpr size_t min_bytes() {
    if constexpr (std::is_trivially_copyable_v<T>) return sizeof(T);
    if constexpr (std::is_same_v<T, Output>) return 5 * sizeof(uint32_t);
    return sizeof(uint32_t);
  }

  size_t get_count(size_t min_element_bytes) {
    const auto count = get<uint32_t>();
    if (count > bytes_.size() / min_element_bytes)
      fail("a count of " + std::to_string(count) + " is too large");
    return count;
  }
  uint8_t get_up_to(uint8_t last) {
    const auto value = get<uint8_t>();
    if (value > last) fail("a choice of " + std::to_string(value) + " is unknown");
    return value;
  }
  std::string_view take(size_t size) {
    if (size > bytes_.size()) fail("they end too early");
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  [[noreturn]] static void fail(const std::string& what) {
    throw Error("request or record", "its bytes cannot be read: " + what,
                "all ranks and the journal must come from the same build; else the data are damaged");
  }

  std::string_view bytes_;
};

// The one list of the fields of each type, for both directions: `Fields` is const for writing.
template <class Codec, class Fields>
requires std::is_same_v<std::remove_const_t<Fields>, SamplingParams>
void each_field(Fields& p, Codec&& codec) {
  codec(p.max_tokens, p.min_tokens, p.temperature, p.top_p, p.top_k, p.min_p, p.n, p.seed,
        p.repetition_penalty, p.frequency_penalty, p.presence_penalty, p.stop, p.stop_token_ids, p.ignore_eos,
        p.logprobs);
}
template <class Codec, class Fields>
requires std::is_same_v<std::remove_const_t<Fields>, Output>
void each_field(Fields& o, Codec&& codec) {
  codec(o.text, o.token_ids, o.logprobs, o.top_logprobs, o.finish_reason);
}
template <class Codec, class Fields>
requires std::is_same_v<std::remove_const_t<Fields>, Score>
void each_field(Fields& s, Codec&& codec) {
  codec(s.sum_logprob, s.is_greedy, s.token_ids, s.logprobs);
}
template <class Codec, class Fields>
requires std::is_same_v<std::remove_const_t<Fields>, RequestError>
void each_field(Fields& e, Codec&& codec) {
  codec(e.code, e.message);
}
template <class Codec, class Fields>
requires std::is_same_v<std::remove_const_t<Fields>, Request>
void each_field(Fields& r, Codec&& codec) {
  codec(r.index, r.id, r.task, r.form, r.prompt_ids, r.continuation_ids, r.sampling, r.metadata_json,
        r.prior_outputs);
}
template <class Codec, class Fields>
requires std::is_same_v<std::remove_const_t<Fields>, Record>
void each_field(Fields& r, Codec&& codec) {
  codec(r.index, r.id, r.task, r.form, r.num_prompt_tokens, r.outputs, r.score, r.error, r.metadata_json);
}

template <class Codec, class Fields>
requires std::is_same_v<std::remove_const_t<Fields>, SampleProgress>
void each_field(Fields& p, Codec&& codec) {
  codec(p.index, p.sample, p.output);
}

template <class T>
void put_fields(ByteWriter& writer, const T& value) {
  each_field(value, [&writer](const auto&... fields) { (writer.put(fields), ...); });
}
template <class T>
void get_fields(ByteReader& reader, T& value) {
  each_field(value, [&reader](auto&... fields) { (reader.get(fields), ...); });
}

void ByteWriter::put(const SamplingParams& p) {
  put_fields(*this, p);
}
void ByteWriter::put(const Output& output) {
  put_fields(*this, output);
}
void ByteWriter::put(const Score& score) {
  put_fields(*this, score);
}
void ByteWriter::put(const RequestError& error) {
  put_fields(*this, error);
}
void ByteReader::get(SamplingParams& p) {
  get_fields(*this, p);
}
void ByteReader::get(Output& output) {
  get_fields(*this, output);
}
void ByteReader::get(Score& score) {
  get_fields(*this, score);
}
void ByteReader::get(RequestError& error) {
  get_fields(*this, error);
}

template <class T>
std::string encode(uint8_t kind, const T& value) {
  ByteWriter writer(kind);
  put_fields(writer, value);
  return writer.take();
}

template <class T>
T decode(uint8_t kind, std::string_view bytes) {
  ByteReader reader(bytes, kind);
  T value;
  get_fields(reader, value);
  reader.finish();
  return value;
}

}  // namespace

std::string to_bytes(const Request& request) {
  return encode(kRequestKind, request);
}
std::string to_bytes(const Record& record) {
  return encode(kRecordKind, record);
}
std::string to_bytes(const SampleProgress& progress) {
  return encode(kProgressKind, progress);
}
Request request_from_bytes(std::string_view bytes) {
  return decode<Request>(kRequestKind, bytes);
}
Record record_from_bytes(std::string_view bytes) {
  return decode<Record>(kRecordKind, bytes);
}
SampleProgress sample_progress_from_bytes(std::string_view bytes) {
  return decode<SampleProgress>(kProgressKind, bytes);
}

}  // namespace nemo
