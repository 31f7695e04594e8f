// The manifest: any text is refused or becomes an artifact that keeps its promises.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "driver/artifact.h"
#include "driver/selection.h"
#include "fuzz_target.h"

int fuzz_one(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const glass::Result<glass::Artifact> artifact = glass::Artifact::parse(text);
  if (!artifact) {
    if (artifact.failure().artifact == glass::ArtifactCode::kNone) std::abort();
    return 0;
  }
  for (const glass::FileEntry& file : artifact->files) {
    if (file.path.empty() || file.path[0] == '/' || file.path[0] == '.') std::abort();
    if (file.path.find("..") != std::string::npos && file.path.find("/.") != std::string::npos) {
      std::abort();
    }
  }
  if (artifact->model.heads % artifact->model.kv_heads != 0) std::abort();
  (void)glass::layer_budgets(artifact->defaults, 4, 8);
  return 0;
}
