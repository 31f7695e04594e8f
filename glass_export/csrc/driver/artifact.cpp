#include "driver/artifact.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>
#include <vector>

#include "driver/json.h"
#include "driver/manifest.h"
#include "driver/sha256.h"

namespace glass {
namespace {

constexpr const char* kManifest = "glass.json";
constexpr const char* kChecksum = "glass.json.sha256";
constexpr const char* kAgain = "; copy or export the artifact again";
constexpr size_t kBlock = 1 << 20;

// Whether the checksum file has the manifest's line: the form that `sha256sum -c` reads, twice
// after a rewrite that was interrupted.
bool has_line(const std::string& checksums, const std::string& digest) {
  const std::string line = digest + "  " + kManifest + "\n";
  for (size_t at = 0; at < checksums.size(); at += line.size()) {
    if (checksums.compare(at, line.size(), line) == 0) return true;
  }
  return false;
}

Result<std::string> read_manifest(const std::string& directory, const TrustedKeys& trusted) {
  std::error_code unknown;
  if (!std::filesystem::is_directory(directory, unknown)) {
    return failure(directory, "/: no such directory; give one that an export wrote");
  }
  const std::string path = directory + "/" + kManifest;
  Result<std::string> text = read_file(path);
  const Result<std::string> checksums = read_file(directory + "/" + kChecksum);
  if (!text || !checksums) {
    return failure(directory, "/: no ", text ? kChecksum : kManifest,
                   "; this is not a complete glass-export artifact, give the directory that an ",
                   "export wrote");
  }
  if (!trusted.empty()) {  // before anything of it is parsed
    const Outcome signed_by = require_signature(directory, *text, trusted);
    if (!signed_by) return signed_by.failure();
  }
  const std::string digest = sha256({text->data(), text->size()});
  if (has_line(*checksums, digest)) return text;
  return failure(path, ": altered; its SHA-256 is ", digest, ", ", kChecksum, " says '",
                 checksums->substr(0, 64), "'", kAgain);
}

Outcome check_file(const std::string& directory, const FileEntry& entry) {
  const std::filesystem::path path = std::filesystem::path(directory) / entry.path;
  std::error_code problem;
  const auto root = std::filesystem::canonical(directory, problem);
  const auto target = std::filesystem::canonical(path, problem);
  if (problem) return failure(path.string(), ": missing", kAgain);
  const auto [outside, rest] =
      std::mismatch(root.begin(), root.end(), target.begin(), target.end());
  if (outside != root.end()) {
    return failure(path.string(), ": links to outside of the artifact", kAgain);
  }
  const uintmax_t size = std::filesystem::file_size(path, problem);
  if (problem) return failure(path.string(), ": not a file", kAgain);
  if (size == static_cast<uintmax_t>(entry.size)) return Done{};
  return failure(path.string(), ": got ", size, " bytes, expected ", entry.size, kAgain);
}

Outcome check_hash(const std::string& path, const FileEntry& entry,
                   const std::atomic<bool>* cancelled) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(kBlock);
  Sha256 hash;
  while (file) {
    if (cancelled != nullptr && *cancelled) return failure("cancelled").as(ErrorCode::kCancelled);
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    hash.update({block.data(), static_cast<size_t>(file.gcount())});
  }
  if (!file.eof()) return failure(path, ": cannot be read", kAgain);
  const std::string digest = hash.hex();
  if (digest == entry.sha256) return Done{};
  return failure(path, ": altered; SHA-256 is ", digest, ", expected ", entry.sha256, kAgain);
}

}  // namespace

Result<Artifact> Artifact::open(const std::string& directory, const TrustedKeys& trusted) {
  const Result<std::string> text = read_manifest(directory, trusted);
  if (!text) return text.failure().as(ErrorCode::kArtifact);
  const std::string path = directory + "/" + kManifest;
  const Json root = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  Artifact artifact;
  artifact.directory = directory;
  const Outcome parsed = root.is_object() ? parse_manifest(root, artifact)
                                          : Outcome(failure("not valid JSON", kAgain));
  if (!parsed) return failure(path, ": ", parsed.failure().message).as(ErrorCode::kArtifact);
  for (const FileEntry& entry : artifact.files) {
    if (Outcome sound = check_file(directory, entry); !sound) {
      return sound.failure().as(ErrorCode::kArtifact);
    }
  }
  return artifact;
}

Outcome Artifact::check_hashes(const std::atomic<bool>* cancelled) const {
  for (const FileEntry& entry : files) {
    Outcome sound = check_hash(file(entry.path), entry, cancelled);
    if (!sound) return sound.failure().as(ErrorCode::kArtifact);
  }
  return Done{};
}

std::string Artifact::file(const std::string& name) const {
  const auto listed = std::any_of(files.begin(), files.end(),
                                  [&](const FileEntry& entry) { return entry.path == name; });
  return listed ? directory + "/" + name : "";
}

int64_t Artifact::model_bytes() const {
  std::set<std::string> used;
  for (const auto& [role, graph] : graphs) used.insert(graph);
  int64_t bytes = 0;
  for (const FileEntry& entry : files) bytes += used.count(entry.path) > 0 ? entry.size : 0;
  return bytes;
}

}  // namespace glass
