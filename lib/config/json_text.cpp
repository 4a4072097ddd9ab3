#include "lib/config/json_text.h"

#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include "kernels/error.h"

namespace nemo {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;

bool is_word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// The bare non-finite number that begins at `position`, or empty.
std::string_view bare_number_at(std::string_view text, size_t position) {
  for (const std::string_view token : {"Infinity", "-Infinity", "NaN"}) {
    if (text.substr(position, token.size()) != token) continue;
    const size_t end = position + token.size();
    if (end == text.size() || !is_word_character(text[end])) return token;
  }
  return {};
}

std::string quote_bare_numbers(std::string_view text) {
  std::string result;
  result.reserve(text.size() + 16);
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\' && i + 1 < text.size()) {
      result += c;
      result += text[++i];
      continue;
    }
    if (c == '"') in_string = !in_string;
    const bool may_begin = !in_string && (i == 0 || !is_word_character(text[i - 1]));
    const std::string_view token = may_begin ? bare_number_at(text, i) : std::string_view{};
    if (token.empty()) {
      result += c;
    } else {
      result.append(1, '"').append(token).append(1, '"');
      i += token.size() - 1;
    }
  }
  return result;
}

/// Watches the parser for what nlohmann::json accepts and we do not.
class StrictCallback {
 public:
  explicit StrictCallback(const std::string& where) : where_(where) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth) throw Error(where_, "JSON nested deeper than " + std::to_string(kMaxDepth), "");
    if (event == json::parse_event_t::object_start) keys_.emplace_back();
    if (event == json::parse_event_t::object_end) keys_.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second) {
        throw Error(where_, "key " + json_excerpt(parsed) + " is given twice in one object",
                    "remove one of the two");
      }
    }
    return true;
  }

 private:
  const std::string& where_;
  std::vector<std::set<std::string>> keys_;  ///< of the objects still open
};

/// "parse error at line 1, column 3: ..." without the library's own error number.
std::string without_error_number(const std::string& what) {
  const size_t end = what.find("] ");
  return what.starts_with("[json.exception") && end != std::string::npos ? what.substr(end + 2) : what;
}

}  // namespace

json parse_json(std::string_view text, const std::string& where) {
  try {
    // The callback is copied by the parser, so its state lives behind a reference.
    StrictCallback strict(where);
    return json::parse(quote_bare_numbers(text),
                       [&strict](int depth, json::parse_event_t event, json& parsed) {
                         return strict(depth, event, parsed);
                       });
  } catch (const json::exception& error) {
    throw Error(where, "not valid JSON: " + without_error_number(error.what()), "");
  }
}

std::string read_text_file(const std::string& path, uint64_t max_bytes) {
  std::error_code code;
  const uint64_t size = std::filesystem::file_size(path, code);
  if (code) throw Error(path, "cannot be read: " + code.message(), "");
  if (size > max_bytes) {
    throw Error(path,
                "has " + std::to_string(size) + " bytes; at most " + std::to_string(max_bytes) +
                    " are possible for a file of this kind",
                "");
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    throw Error(path, std::string("cannot be read: ") + std::strerror(errno), "");
  }
  return text;
}

std::string json_excerpt(const json& value) {
  constexpr size_t kMaxLength = 60;
  if (value.is_structured() && value.size() > 8) {
    return std::string(value.is_array() ? "a list of " : "an object of ") + std::to_string(value.size());
  }
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kMaxLength) text = text.substr(0, kMaxLength) + "...";
  return text;
}

}  // namespace nemo
