#include "driver/manifest_files.h"

#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "driver/limits.h"

namespace glass {
namespace {

bool is_letter_or_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Names of letters, digits, '.', '_', '+' and '-', none of them beginning with a dot.
bool is_plain_path(const std::string& path) {
  if (path.size() > kMostPathBytes) return false;
  bool start = true;
  for (const char c : path) {
    const bool plain =
        is_letter_or_digit(c) || c == '_' || c == '+' || c == '-' || (c == '.' && !start);
    if (!plain && (c != '/' || start)) return false;
    start = c == '/';
  }
  return !start;
}

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

size_t most_bytes_of(const std::string& path) {
  if (path == "prior.safetensors") return kMostPriorBytes;
  if (path == "tokenizer.json") return kMostTokenizerBytes;
  if (path == "tokenizer_config.json") return kMostConfigBytes;
  if (path == "chat_template.jinja") return kMostTemplateBytes;
  return SIZE_MAX;
}

}  // namespace

Outcome read_files(const Json& list, Artifact& artifact) {
  if (list.size() > kMostFiles) {
    return failure("files: ", list.size(), " are listed, at most ", kMostFiles, " are read")
        .as(ArtifactCode::kTooLarge);
  }
  std::set<std::string> seen;
  for (const Json& item : list) {
    FileEntry entry{text_of(field(item, "path")), id_of(field(item, "size")),
                    text_of(field(item, "sha256"))};
    if (!is_plain_path(entry.path)) {
      return failure("file path '", shown(entry.path),
                     "' is not a plain relative path inside the artifact", kCopyAgain)
          .as(ArtifactCode::kPath);
    }
    if (!seen.insert(lower(entry.path)).second) {
      return failure("file '", entry.path, "' is listed twice", kCopyAgain).as(ArtifactCode::kPath);
    }
    if (entry.size < 0 || !is_sha256(entry.sha256)) {
      return failure("file '", entry.path, "' has no size or no SHA-256", kCopyAgain);
    }
    if (static_cast<uint64_t>(entry.size) > most_bytes_of(entry.path)) {
      return failure(entry.path, " has ", entry.size, " bytes, at most ", most_bytes_of(entry.path),
                     " are read")
          .as(ArtifactCode::kTooLarge);
    }
    artifact.files.push_back(std::move(entry));
  }
  return Done{};
}

}  // namespace glass
