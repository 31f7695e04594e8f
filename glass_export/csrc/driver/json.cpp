#include "driver/json.h"

#include <fstream>
#include <sstream>

namespace glass {

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (file) {
    std::ostringstream text;
    text << file.rdbuf();
    if (!file.bad()) return text.str();
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
