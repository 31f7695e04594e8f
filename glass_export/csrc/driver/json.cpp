#include "driver/json.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Leaves lists and objects without anything in them. As deep as the tree, which parsers limit.
void empty(Json& value) {
  if (value.is_structured()) {
    for (Json& item : value) empty(item);
    value.clear();
  }
}

}  // namespace

JsonDocument::~JsonDocument() { empty(root); }

std::string shown(std::string_view text, size_t most) {
  std::string out;
  for (const char c : text.substr(0, most)) {
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return text.size() > most ? out + "..." : out;
}

std::string shown_json(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_string()) return "'" + shown(value.get_ref<const std::string&>()) + "'";
  return value.dump();
}

bool JsonBuilder::number_unsigned(uint64_t number) {
  if (number <= INT64_MAX || whole_ == Whole::kWide) return value(number);
  return fail(glass::failure("the number ", number, " is too large").as(ArtifactCode::kJson));
}

bool JsonBuilder::number_float(double number, const std::string& text) {
  if (text.find_first_of(".eE") != std::string::npos || whole_ == Whole::kWide)
    return value(number);
  return fail(glass::failure("the number ", shown(text), " is too large").as(ArtifactCode::kJson));
}

bool JsonBuilder::key(std::string& name) {
  if (open_.back()->contains(name)) {
    return fail(
        glass::failure("the key '", shown(name), "' is given twice").as(ArtifactCode::kJson));
  }
  key_ = std::move(name);
  return true;
}

bool JsonBuilder::parse_error(size_t place, const std::string&, const Json::exception&) {
  return fail(glass::failure("not valid JSON at byte ", place).as(ArtifactCode::kJson));
}

bool JsonBuilder::open(Json container) {
  if (open_.size() == kMostJsonDepth) {
    return fail(glass::failure("more than ", kMostJsonDepth, " lists and objects inside each other")
                    .as(ArtifactCode::kTooLarge));
  }
  Json* const place = put(std::move(container));
  if (place != nullptr) open_.push_back(place);
  return place != nullptr;
}

bool JsonBuilder::close() {
  open_.pop_back();
  return true;
}

bool JsonBuilder::fail(Failure why) {
  failure = std::move(why);
  return false;
}

// Puts a value where it belongs in the tree.
Json* JsonBuilder::put(Json value) {
  if (++items_ > kMostJsonItems && whole_ == Whole::kNarrow) {
    fail(glass::failure("more than ", kMostJsonItems, " values").as(ArtifactCode::kTooLarge));
    return nullptr;
  }
  if (open_.empty()) return &(document.root = std::move(value));
  Json& parent = *open_.back();
  if (parent.is_object()) return &(parent[key_] = std::move(value));
  parent.push_back(std::move(value));
  return &parent.back();
}

Result<JsonDocument> parse_json(std::string_view text, Whole whole) {
  if (!is_utf8(text)) return failure("not UTF-8 text").as(ArtifactCode::kEncoding);
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
    return failure("not valid JSON: it begins with a byte order mark").as(ArtifactCode::kJson);
  }
  JsonBuilder builder(whole);
  if (Json::sax_parse(text, &builder)) return std::move(builder.document);
  return builder.failure;
}

Result<std::string> read_file(const std::string& path, size_t most) {
  std::error_code problem;
  if (std::filesystem::is_regular_file(path, problem)) {
    std::ifstream file(path, std::ios::binary);
    std::string text;
    const uintmax_t size = std::filesystem::file_size(path, problem);
    if (!problem && size > most) {
      return failure(path, ": has ", size, " bytes, at most ", most, " are read")
          .as(ArtifactCode::kTooLarge);
    }
    if (file && !problem) {
      text.resize(static_cast<size_t>(size));
      file.read(text.data(), static_cast<std::streamsize>(size));
      if (static_cast<uintmax_t>(file.gcount()) == size) return text;
    }
  }
  return failure(path, ": cannot be read; give a whole artifact directory")
      .as(ArtifactCode::kUnreadable);
}

}  // namespace glass
