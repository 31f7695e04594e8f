#include "driver/json.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace glass {

Result<std::string> read_file(const std::string& path) {
  std::error_code problem;
  const uintmax_t size = std::filesystem::file_size(path, problem);
  std::ifstream file(path, std::ios::binary);
  if (file && !problem) {
    std::string text(static_cast<size_t>(size), '\0');  // a string stream drops what has no memory
    file.read(text.data(), static_cast<std::streamsize>(size));
    if (static_cast<uintmax_t>(file.gcount()) == size) return text;
  }
  return failure(path, ": cannot be read; give a whole artifact directory")
      .as(ErrorCode::kArtifact);
}

Result<Json> read_json(const std::string& path) {
  const Result<std::string> text = read_file(path);
  if (!text) return text.failure();
  Json root = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (root.is_object()) return root;
  return failure(path, ": not valid JSON; copy or export the artifact again")
      .as(ErrorCode::kArtifact);
}

}  // namespace glass
