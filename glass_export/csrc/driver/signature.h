// Signatures of artifacts: Ed25519 (RFC 8032) over the bytes of glass.json, which hold the SHA-256
// of every other file. As glass_export/artifact/signature.py; the format is in artifacts/README.md.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "driver/status.h"
#include "glass/base.h"

namespace glass {

struct PublicKey {
  std::array<unsigned char, 32> bytes;
  std::string id;  // what signatures name it by: 16 hex digits
};

// Keys of which one must have signed an artifact. Without any, no signature is asked for.
using TrustedKeys = std::vector<PublicKey>;

// Keys from their base64, separated by white space: at least one. Fails when a word is no key.
Result<TrustedKeys> parse_trusted_keys(const std::string& text);

// Whether a signature, 64 bytes, is a key's of some bytes.
bool verifies(const PublicKey& key, const unsigned char* signature, Span<const char> content);

// Fails unless glass.json.sig in the directory has a signature of the manifest's bytes by one of
// the keys.
Outcome require_signature(const std::string& directory, const std::string& manifest,
                          const TrustedKeys& trusted);

}  // namespace glass
