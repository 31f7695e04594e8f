// Reading a tokenizer.json without exceptions: a field that is missing or of another kind gives the
// fallback.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace glass::run {

using Json = nlohmann::json;

// The field, or null.
inline const Json& field(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? null : *found;
}

inline std::string text_of(const Json& value) {
  return value.is_string() ? value.get_ref<const std::string&>() : std::string();
}

inline bool flag_of(const Json& object, const char* key, bool fallback = false) {
  const Json& value = field(object, key);
  return value.is_boolean() ? value.get<bool>() : fallback;
}

// A whole number of 0 or more, or -1.
inline int64_t id_of(const Json& value) {
  return value.is_number_unsigned() ? value.get<int64_t>() : -1;
}

}  // namespace glass::run
