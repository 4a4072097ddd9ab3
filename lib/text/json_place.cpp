#include "lib/text/json_place.h"

#include "kernels/error.h"

namespace nemo {

std::string JsonPlace::where() const {
  return place_.empty() ? *file_ : *file_ + ": " + place_;
}

void JsonPlace::fail(const std::string& what, std::string_view remedy) const {
  throw Error(where(), what, remedy);
}

void JsonPlace::refuse(const std::string& what) const {
  throw Error(where(), what + " is not supported",
              "use a checkpoint with byte-level BPE, as all Nemotron-H checkpoints have it");
}

JsonPlace JsonPlace::member(const std::string& key, const nlohmann::json& value) const {
  JsonPlace place(value, *file_);
  place.place_ = place_.empty() ? key : place_ + "." + key;
  return place;
}

std::optional<JsonPlace> JsonPlace::find(std::string_view key) const {
  const auto it = object().find(key);
  if (it == value_->end() || it->is_null()) return std::nullopt;
  return member(std::string(key), *it);
}

JsonPlace JsonPlace::at(std::string_view key) const {
  const auto it = object().find(key);
  if (it == value_->end()) fail("has no \"" + std::string(key) + "\"");
  return member(std::string(key), *it);
}

JsonPlace JsonPlace::at(size_t i) const {
  JsonPlace place(array().at(i), *file_);
  place.place_ = place_ + "[" + std::to_string(i) + "]";
  return place;
}

const nlohmann::json& JsonPlace::object() const {
  if (!value_->is_object()) fail(std::string("must be an object, not ") + value_->type_name());
  return *value_;
}

const nlohmann::json& JsonPlace::array() const {
  if (!value_->is_array()) fail(std::string("must be an array, not ") + value_->type_name());
  return *value_;
}

const std::string& JsonPlace::string() const {
  if (!value_->is_string()) fail(std::string("must be a string, not ") + value_->type_name());
  return value_->get_ref<const std::string&>();
}

bool JsonPlace::boolean() const {
  if (!value_->is_boolean()) fail(std::string("must be true or false, not ") + value_->type_name());
  return value_->get<bool>();
}

int64_t JsonPlace::integer(int64_t low, int64_t high) const {
  if (!value_->is_number_integer()) fail(std::string("must be an integer, not ") + value_->type_name());
  const bool overflows =
      value_->is_number_unsigned() && value_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t number = overflows ? INT64_MAX : value_->get<int64_t>();
  if (number < low || number > high) {
    fail("must be in [" + std::to_string(low) + ", " + std::to_string(high) + "], not " + value_->dump());
  }
  return number;
}

bool JsonPlace::boolean_or(std::string_view key, bool fallback) const {
  const auto place = find(key);
  return place ? place->boolean() : fallback;
}

}  // namespace nemo
