// What can be wrong with an artifact: the closed list of artifacts/README.md, the same as
// ArtifactCode in glass_export/errors.py.
#pragma once

#include <cstddef>
#include <iterator>

namespace glass {

enum class ArtifactCode {
  kNone = 0,  // the failure is none of an artifact
  kNoArtifact,
  kUnreadable,
  kTooLarge,
  kChecksum,
  kEncoding,
  kJson,
  kSchema,
  kManifest,
  kPath,
  kTensor,
  kLink,
  kMissing,
  kSize,
  kHash,
  kGraph,
  kTokenizer,
  kTemplate,
  kPrior,
  kSignature,
  kUnsupported,
};

// Their names in messages and documents, in the order of the enumeration.
inline constexpr const char* kArtifactCodeNames[] = {
    "",       "no-artifact", "unreadable", "too-large", "checksum", "encoding",  "json",
    "schema", "manifest",    "path",       "tensor",    "link",     "missing",   "size",
    "hash",   "graph",       "tokenizer",  "template",  "prior",    "signature", "unsupported",
};
static_assert(std::size(kArtifactCodeNames) == static_cast<size_t>(ArtifactCode::kUnsupported) + 1);

inline const char* artifact_code_name(ArtifactCode code) {
  return kArtifactCodeNames[static_cast<size_t>(code)];
}

// What to do about a damaged artifact.
inline constexpr const char* kCopyAgain = "; copy or export the artifact again";

}  // namespace glass
