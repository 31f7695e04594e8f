// Reading JSON without exceptions: a field that is missing or of another kind gives the fallback.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "driver/limits.h"
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

// A value in a message: cut, so that a hostile one does not fill it. `most`: bytes.
std::string shown_json(const Json& value);
std::string shown(std::string_view text, size_t most = 60);

// A tree that takes itself apart from its leaves. The destructor of a Json puts what is in lists
// and objects into a vector first, and ends the process when there is no memory for that.
struct JsonDocument {
  JsonDocument() = default;
  JsonDocument(JsonDocument&& other) noexcept : root(std::move(other.root)) {}
  JsonDocument& operator=(JsonDocument&& other) noexcept {
    std::swap(root, other.root);
    return *this;
  }
  ~JsonDocument();

  Json root;
};

// kWide, for files of Hugging Face: whole numbers may be larger than int64 holds, as 10^30 stands
// there for no limit, and there may be more values than kMostJsonItems.
enum class Whole { kNarrow, kWide };

// Makes a tree of what the parser finds, in order. Stops at a key that is there already, below
// kMostJsonDepth and at whole numbers that are too large; `failure` then says why.
class JsonBuilder : public Json::json_sax_t {
 public:
  explicit JsonBuilder(Whole whole) : whole_(whole) {}

  JsonDocument document;
  Failure failure;

  bool null() override { return value(nullptr); }
  bool boolean(bool flag) override { return value(flag); }
  bool number_integer(int64_t number) override { return value(number); }
  bool number_unsigned(uint64_t number) override;
  bool number_float(double number, const std::string& text) override;
  bool string(std::string& text) override { return value(std::move(text)); }
  bool binary(Json::binary_t&) override { return false; }
  bool key(std::string& name) override;
  bool start_object(size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool parse_error(size_t, const std::string&, const Json::exception&) override;

 protected:
  bool value(Json value) { return put(std::move(value)) != nullptr; }
  bool open(Json container);
  bool close();
  bool fail(Failure why);

  size_t depth() const { return open_.size(); }
  const std::string& key() const { return key_; }

 private:
  Json* put(Json value);

  Whole whole_;
  size_t items_ = 0;
  std::vector<Json*> open_;  // containers around the current place
  std::string key_;
};

// The document of a text. Fails when it is no JSON, or one that JsonBuilder refuses.
Result<JsonDocument> parse_json(std::string_view text, Whole whole = Whole::kNarrow);

// The bytes of a file. Fails when it cannot be read, or has more than `most`.
Result<std::string> read_file(const std::string& path, size_t most);

}  // namespace glass
