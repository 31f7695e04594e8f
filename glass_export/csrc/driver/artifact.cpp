#include "driver/artifact.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>
#include <vector>

#include "driver/json.h"
#include "driver/limits.h"
#include "driver/manifest.h"
#include "driver/onnx_file.h"
#include "driver/sha256.h"

namespace glass {
namespace {

constexpr const char* kManifest = "glass.json";
constexpr const char* kChecksum = "glass.json.sha256";
constexpr size_t kBlock = 1 << 20;

// Whether the checksum file has the manifest's line: the form that `sha256sum -c` reads, twice
// after a rewrite that was interrupted.
bool has_line(const std::string& checksums, const std::string& digest) {
  const std::string line = digest + "  " + kManifest + "\n";
  const size_t lines = checksums.size() / line.size();
  if (lines < 1 || lines > 2 || checksums.size() % line.size() != 0) return false;
  for (size_t at = 0; at < checksums.size(); at += line.size()) {
    if (checksums.compare(at, line.size(), line) == 0) return true;
  }
  return false;
}

Result<std::string> read_manifest(const std::string& directory, const TrustedKeys& trusted) {
  std::error_code unknown;
  if (!std::filesystem::is_directory(directory, unknown)) {
    return failure(directory, "/: no such directory; give one that an export wrote")
        .as(ArtifactCode::kNoArtifact);
  }
  for (const char* name : {kManifest, kChecksum}) {
    if (std::filesystem::exists(directory + "/" + name, unknown) || unknown) continue;
    return failure(directory, "/: no ", name, "; this is not a complete glass-export artifact, ",
                   "give the directory that an export wrote")
        .as(ArtifactCode::kNoArtifact);
  }
  const std::string path = directory + "/" + kManifest;
  Result<std::string> text = read_file(path, kMostManifestBytes);
  if (!text) return text;
  if (!trusted.empty()) {  // before anything of it is parsed
    const Outcome signed_by = require_signature(directory, *text, trusted);
    if (!signed_by) return signed_by.failure().as(ArtifactCode::kSignature);
  }
  const Result<std::string> checksums = read_file(directory + "/" + kChecksum, kMostChecksumBytes);
  if (!checksums) return checksums;
  const std::string digest = sha256({text->data(), text->size()});
  if (has_line(*checksums, digest)) return text;
  return failure(path, ": altered; its SHA-256 is ", digest, ", ", kChecksum, " says '",
                 shown(checksums->substr(0, 64)), "'", kCopyAgain)
      .as(ArtifactCode::kChecksum);
}

Outcome check_file(const std::string& directory, const FileEntry& entry) {
  const std::filesystem::path path = std::filesystem::path(directory) / entry.path;
  std::error_code problem;
  const auto root = std::filesystem::canonical(directory, problem);
  const auto target = std::filesystem::canonical(path, problem);
  if (problem == std::errc::no_such_file_or_directory) {
    return failure(path.string(), ": missing", kCopyAgain).as(ArtifactCode::kMissing);
  }
  if (problem) {
    return failure(path.string(), ": cannot be read (", problem.message(), ")", kCopyAgain)
        .as(ArtifactCode::kUnreadable);
  }
  const auto [outside, rest] =
      std::mismatch(root.begin(), root.end(), target.begin(), target.end());
  if (outside != root.end()) {
    return failure(path.string(), ": links to outside of the artifact", kCopyAgain)
        .as(ArtifactCode::kLink);
  }
  if (!std::filesystem::is_regular_file(target, problem)) {
    return failure(path.string(), ": not a file", kCopyAgain).as(ArtifactCode::kUnreadable);
  }
  const uintmax_t size = std::filesystem::file_size(target, problem);
  if (!problem && size == static_cast<uintmax_t>(entry.size)) return Done{};
  return failure(path.string(), ": got ", size, " bytes, expected ", entry.size, kCopyAgain)
      .as(ArtifactCode::kSize);
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
  if (!file.eof()) {
    return failure(path, ": cannot be read", kCopyAgain).as(ArtifactCode::kUnreadable);
  }
  const std::string digest = hash.hex();
  if (digest == entry.sha256) return Done{};
  return failure(path, ": altered; SHA-256 is ", digest, ", expected ", entry.sha256, kCopyAgain)
      .as(ArtifactCode::kHash);
}

// The graphs of target onnx refer to nothing but the weights file.
Outcome check_graphs(const Artifact& artifact) {
  if (artifact.target != "onnx") return Done{};
  const auto weights = artifact.graphs.find("weights");
  const std::string name = weights == artifact.graphs.end() ? "" : weights->second;
  int64_t size = 0;
  for (const FileEntry& entry : artifact.files) size = entry.path == name ? entry.size : size;
  std::set<std::string> graphs;
  for (const auto& [role, graph] : artifact.graphs) {
    if (graph != name) graphs.insert(graph);
  }
  for (const std::string& graph : graphs) {
    const Result<std::string> bytes = read_file(artifact.file(graph), kMostGraphBytes);
    if (!bytes) return bytes.failure();
    if (Outcome sound = check_onnx(*bytes, name, size); !sound) {
      return failure(artifact.file(graph), ": ", sound.failure().message, kCopyAgain)
          .as(ArtifactCode::kGraph);
    }
  }
  return Done{};
}

}  // namespace

Result<Artifact> Artifact::open(const std::string& directory, const TrustedKeys& trusted) {
  const Result<std::string> text = read_manifest(directory, trusted);
  if (!text) return text.failure();
  Result<Artifact> artifact = parse(*text);
  if (!artifact) {
    const Failure& why = artifact.failure();
    return failure(directory, "/", kManifest, ": ", why.message).as(why.artifact);
  }
  artifact->directory = directory;
  for (const FileEntry& entry : artifact->files) {
    if (Outcome sound = check_file(directory, entry); !sound) return sound.failure();
  }
  if (Outcome sound = check_graphs(*artifact); !sound) return sound.failure();
  return artifact;
}

Result<Artifact> Artifact::parse(std::string_view manifest) {
  const Result<JsonDocument> document = parse_json(manifest);
  if (!document) return document.failure();
  Artifact artifact;
  const Outcome parsed =
      document->root.is_object()
          ? parse_manifest(document->root, artifact)
          : Outcome(failure("not a JSON object", kCopyAgain).as(ArtifactCode::kJson));
  if (!parsed) return parsed.failure().as(ArtifactCode::kManifest);
  return artifact;
}

Outcome Artifact::check_hashes(const std::atomic<bool>* cancelled) const {
  for (const FileEntry& entry : files) {
    Outcome sound = check_hash(file(entry.path), entry, cancelled);
    if (!sound) return sound.failure();
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
