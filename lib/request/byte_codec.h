// Values as bytes, for everything that ranks send each other and that the journal keeps: a byte for the kind
// of value, a byte for the version, then its fields one after the other, little endian. Numbers as they lie
// in memory (so floats keep their bits), a 4-byte count before texts and arrays, a byte before what may be
// absent.
//
// A type takes part with one list of its fields for both directions, found in the type's namespace:
//
//   template <Fields<Score> T, class Codec>
//   void each_field(T& s, Codec& codec) { codec(s.sum_logprob, s.is_greedy, s.token_ids, s.logprobs); }
#pragma once

#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace nemo {

static_assert(std::endian::native == std::endian::little,
              "the byte form is the memory form of little-endian hosts");

/// T is Value, const for writing.
template <class T, class Value>
concept Fields = std::is_same_v<std::remove_const_t<T>, Value>;

/// The last value of an enumeration that is to be written, in a byte; others are refused when read.
template <class Enum>
inline constexpr Enum kLastOf{};

class ByteWriter {
 public:
  template <class... Values>
  void operator()(const Values&... values) {
    (put(values), ...);
  }
  std::string take() { return std::move(bytes_); }

 private:
  template <class T>
  void put(const T& value) {
    if constexpr (std::is_same_v<T, bool> || std::is_enum_v<T>) {
      bytes_ += static_cast<char>(value);
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
    if (count > std::numeric_limits<uint32_t>::max()) {
      throw Error("request",
                  "a text or list of " + std::to_string(count) + " elements is too long to be sent",
                  "ask for fewer tokens, samples or logprobs in one request");
    }
    put(static_cast<uint32_t>(count));
  }

  std::string bytes_;
};

/// Refuses with Error what a writer cannot have made. Memory is taken only as elements are found, so that
/// bad bytes take no more than a small multiple of their own size.
class ByteReader {
 public:
  /// What an error says of the bytes.
  struct Origin {
    std::string_view what;
    std::string_view remedy;
  };
  ByteReader(std::string_view bytes, Origin origin) : bytes_(bytes), origin_(origin) {}

  template <class... Values>
  void operator()(Values&... values) {
    (get(values), ...);
  }
  void finish() const {
    if (!bytes_.empty()) fail(std::to_string(bytes_.size()) + " bytes left over");
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(origin_.what, "its bytes cannot be read: " + what, origin_.remedy);
  }

 private:
  template <class T>
  void get(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      value = get_up_to(1) != 0;
    } else if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(get_up_to(static_cast<uint8_t>(kLastOf<T>)));
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
    if (get_up_to(1) != 0) get(value.emplace());
  }
  size_t get_count() {
    uint32_t count = 0;
    get(count);
    return count;
  }
  uint8_t get_up_to(uint8_t last) {
    uint8_t value = 0;
    get(value);
    if (value > last) fail("a choice of " + std::to_string(value) + " is unknown");
    return value;
  }
  std::string_view take(size_t size) {
    if (size > bytes_.size()) fail("they end too early");
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
  Origin origin_;
};

template <class T>
std::string encode(uint8_t kind, uint8_t version, const T& value) {
  ByteWriter writer;
  writer(kind, version, value);
  return writer.take();
}

template <class T>
T decode(uint8_t kind, uint8_t version, std::string_view bytes, ByteReader::Origin origin) {
  ByteReader reader(bytes, origin);
  uint8_t found_kind = 0, found_version = 0;
  reader(found_kind, found_version);
  if (found_kind != kind) reader.fail("another kind of value");
  if (found_version != version) reader.fail("version " + std::to_string(found_version));
  T value;
  reader(value);
  reader.finish();
  return value;
}

}  // namespace nemo
