// Reading JSON without exceptions: a field that is missing or of another kind gives the fallback.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "driver/status.h"

namespace glass {

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

// A whole number of 0 or more that int64 holds, or -1.
inline int64_t id_of(const Json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX) return -1;
  return value.get<int64_t>();
}

// The bytes of a file. Fails when it cannot be read.
Result<std::string> read_file(const std::string& path);

// The object of a JSON file. Fails when it cannot be read, or holds anything else.
Result<Json> read_json(const std::string& path);

}  // namespace glass
