#include "lib/output/journal_format.h"

#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "lib/output/checksum.h"

namespace nemo::journal_format {
namespace {

constexpr std::string_view kPrefix = "segment-";
constexpr std::string_view kSuffix = ".nj";

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T get(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

uint64_t pack(const RecordTraits& traits) {
  return static_cast<uint64_t>(traits.top_k) | uint64_t{traits.has_logprobs} << 32 |
         uint64_t{traits.has_several_outputs} << 33 | uint64_t{traits.has_metadata} << 34 |
         uint64_t{traits.has_error} << 35;
}

RecordTraits unpack(uint64_t packed) {
  const auto bit = [packed](int position) { return (packed >> position & 1) != 0; };
  return {.has_logprobs = bit(32),
          .has_several_outputs = bit(33),
          .has_metadata = bit(34),
          .has_error = bit(35),
          .top_k = static_cast<int64_t>(packed & 0xffffffff)};
}

// A record is good only where it was written: bytes that a file system or a copy has put elsewhere do not
// pass.
uint64_t place_seed(const JournalLocation& location) {
  return static_cast<uint64_t>(location.segment) << 40 ^ static_cast<uint64_t>(location.offset);
}

// The text's checksum also covers its size, so that no part of the header is unchecked.
uint64_t text_checksum(std::string_view text) {
  return checksum(text, text.size());
}

std::optional<Identity> parse_identity(std::string_view text, int64_t segment) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("segment") || !json.contains("identity")) return std::nullopt;
  if (json["segment"] != segment || !json["identity"].is_array()) return std::nullopt;
  Identity identity;
  for (const auto& item : json["identity"]) {
    if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_string())
      return std::nullopt;
    identity.emplace_back(item[0].get<std::string>(), item[1].get<std::string>());
  }
  return identity;
}

}  // namespace

std::string segment_path(const std::string& folder, int64_t segment) {
  std::string digits = std::to_string(segment);
  if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
  return folder + "/" + std::string(kPrefix) + digits + std::string(kSuffix);
}

std::optional<int64_t> segment_number(std::string_view file_name) {
  if (!file_name.starts_with(kPrefix) || !file_name.ends_with(kSuffix)) return std::nullopt;
  if (file_name.size() < kPrefix.size() + kSuffix.size() + 6) return std::nullopt;
  const std::string_view digits =
      file_name.substr(kPrefix.size(), file_name.size() - kPrefix.size() - kSuffix.size());
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 1) return std::nullopt;
  return number;
}

std::string encode_segment_header(int64_t segment, const Identity& identity) {
  nlohmann::json items = nlohmann::json::array();
  for (const auto& [name, value] : identity) items.push_back({name, value});
  const nlohmann::json json = {{"segment", segment}, {"identity", items}};
  const std::string text = json.dump() + "\n";
  NEMO_CHECK(static_cast<int64_t>(text.size()) <= kMaxIdentityBytes,
             "an identity of " + std::to_string(text.size()) + " bytes; use fingerprints");
  std::string bytes(kSegmentMagic);
  put(bytes, kVersion);
  put(bytes, static_cast<uint32_t>(text.size()));
  put(bytes, text_checksum(text));
  return bytes + text;
}

std::optional<SegmentHeader> decode_segment_header(std::string_view bytes, int64_t segment,
                                                   const std::string& path) {
  if (static_cast<int64_t>(bytes.size()) < kSegmentPrefixBytes || !bytes.starts_with(kSegmentMagic)) {
    return std::nullopt;
  }
  const auto version = get<uint32_t>(bytes, 8);
  if (version != kVersion) {
    throw Error(path,
                "this journal has version " + std::to_string(version) + ", this program writes version " +
                    std::to_string(kVersion),
                "use the program that wrote it, choose another output.path, or start over with --fresh");
  }
  const std::string_view text = bytes.substr(kSegmentPrefixBytes).substr(0, get<uint32_t>(bytes, 12));
  if (text.size() != get<uint32_t>(bytes, 12) || text_checksum(text) != get<uint64_t>(bytes, 16))
    return std::nullopt;
  auto identity = parse_identity(text, segment);
  if (!identity) return std::nullopt;
  return SegmentHeader{std::move(*identity), kSegmentPrefixBytes + static_cast<int64_t>(text.size())};
}

std::string encode_record_header(const RecordHeader& header, const JournalLocation& location) {
  std::string bytes(kRecordMagic);
  put(bytes, header.payload_bytes);
  put(bytes, header.kind);
  put(bytes, header.sample);
  put(bytes, header.index);
  put(bytes, pack(header.traits));
  put(bytes, header.durable);
  put(bytes, header.payload_checksum);
  put(bytes, checksum(bytes, place_seed(location)));
  return bytes;
}

std::optional<RecordHeader> decode_record_header(std::string_view bytes, const JournalLocation& location) {
  if (static_cast<int64_t>(bytes.size()) < kRecordHeaderBytes || !bytes.starts_with(kRecordMagic))
    return std::nullopt;
  const std::string_view covered = bytes.substr(0, kRecordHeaderBytes - sizeof(uint64_t));
  if (checksum(covered, place_seed(location)) != get<uint64_t>(bytes, covered.size())) return std::nullopt;
  RecordHeader header;
  header.payload_bytes = get<uint32_t>(bytes, 4);
  header.kind = get<uint32_t>(bytes, 8);
  header.sample = get<uint32_t>(bytes, 12);
  header.index = get<int64_t>(bytes, 16);
  header.traits = unpack(get<uint64_t>(bytes, 24));
  header.durable = get<int64_t>(bytes, 32);
  header.payload_checksum = get<uint64_t>(bytes, 40);
  return header;
}

std::string encode_work(const WorkDone& work) {
  std::string bytes;
  put(bytes, work.prompt_tokens);
  put(bytes, work.output_tokens);
  return bytes;
}

WorkDone decode_work(std::string_view payload) {
  if (payload.size() != 2 * sizeof(int64_t)) {
    throw Error("journal", "a count of work has " + std::to_string(payload.size()) + " bytes",
                "use the program that wrote it, or start over with --fresh");
  }
  return {get<int64_t>(payload, 0), get<int64_t>(payload, sizeof(int64_t))};
}

bool payload_is_whole(const RecordHeader& header, std::string_view payload) {
  return payload.size() == header.payload_bytes &&
         checksum(payload, static_cast<uint64_t>(header.index)) == header.payload_checksum;
}

}  // namespace nemo::journal_format
