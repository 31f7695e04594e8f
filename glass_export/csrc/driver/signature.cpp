#include "driver/signature.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

extern "C" {
#include <sodium/crypto_sign_ed25519.h>
#include <sodium/utils.h>
}

#include "driver/sha256.h"

namespace glass {
namespace {

constexpr size_t kIdLength = 16;
constexpr size_t kMaxSignatures = 16;
constexpr size_t kEncodedSignature = 88;
constexpr const char* kAlgorithm = "ed25519 ";
constexpr size_t kIdAt = 8;                             // in a line: behind the algorithm,
constexpr size_t kSignatureAt = kIdAt + kIdLength + 1;  // the id and a space
constexpr size_t kLine = kSignatureAt + kEncodedSignature + 1;

struct Signature {
  std::string key_id;
  std::array<unsigned char, crypto_sign_ed25519_BYTES> bytes;
};

// Decodes base64 that has exactly so many bytes, padded, with unused bits zero.
template <size_t Size>
bool decode(const std::string& text, std::array<unsigned char, Size>& bytes) {
  size_t length = 0;
  const char* end = nullptr;
  const int failed = sodium_base642bin(bytes.data(), Size, text.data(), text.size(), nullptr,
                                       &length, &end, sodium_base64_VARIANT_ORIGINAL);
  return failed == 0 && length == Size && end == text.data() + text.size();
}

bool is_hex(const std::string& text) {
  return text.find_first_not_of("0123456789abcdef") == text.npos;
}

// A line of glass.json.sig; false when it is none.
bool parse_line(const std::string& line, Signature& out) {
  if (line.size() != kLine || line.compare(0, kIdAt, kAlgorithm) != 0) return false;
  out.key_id = line.substr(kIdAt, kIdLength);
  return is_hex(out.key_id) && line[kSignatureAt - 1] == ' ' && line.back() == '\n' &&
         decode(line.substr(kSignatureAt, kEncodedSignature), out.bytes);
}

Result<std::vector<Signature>> read_signatures(const std::string& path) {
  std::vector<Signature> signatures;
  std::error_code unknown;
  if (!std::filesystem::is_regular_file(path, unknown)) return signatures;  // pipes are waited for
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxSignatures * kLine + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(file ? text.size() : static_cast<size_t>(file.gcount()));
  for (size_t at = 0; at < text.size(); at += kLine) {
    Signature signature;
    if (!parse_line(text.substr(at, kLine), signature)) {
      return failure(path, ": damaged, expected 1 to ", kMaxSignatures,
                     " lines `ed25519 KEY-ID SIGNATURE`; copy the artifact again");
    }
    signatures.push_back(std::move(signature));
  }
  return signatures;
}

std::string ids_of(const TrustedKeys& keys) {
  std::string text;
  for (const PublicKey& key : keys) text += (text.empty() ? "" : ", ") + key.id;
  return text;
}

}  // namespace

Result<TrustedKeys> parse_trusted_keys(const std::string& text) {
  std::istringstream words(text);
  words.exceptions(std::ios::badbit);  // no memory is not the end of the text
  TrustedKeys keys;
  for (std::string word; words >> word;) {
    PublicKey key;
    if (!decode(word, key.bytes)) {
      return failure("trusted keys: got '", word.substr(0, 60), "', expected the base64 of an ",
                     "Ed25519 public key, 44 characters, as `glass-export keygen` writes it")
          .as(ErrorCode::kInvalidArgument);
    }
    key.id = sha256({reinterpret_cast<const char*>(key.bytes.data()), key.bytes.size()})
                 .substr(0, kIdLength);
    keys.push_back(std::move(key));
  }
  if (!keys.empty()) return keys;
  return failure("trusted keys: got none; give at least one, or ask for no signature")
      .as(ErrorCode::kInvalidArgument);
}

bool verifies(const PublicKey& key, const unsigned char* signature, Span<const char> content) {
  return crypto_sign_ed25519_verify_detached(signature,
                                             reinterpret_cast<const unsigned char*>(content.data),
                                             content.size, key.bytes.data()) == 0;
}

Outcome require_signature(const std::string& directory, const std::string& manifest,
                          const TrustedKeys& trusted) {
  const auto found = read_signatures(directory + "/glass.json.sig");
  if (!found) return found.failure();
  if (found->empty()) {
    return failure(directory, "/: not signed, no glass.json.sig (trusted: ", ids_of(trusted),
                   "); get the artifact from who signs it");
  }
  bool known = false;
  for (const PublicKey& key : trusted) {
    for (const Signature& signature : *found) {
      if (signature.key_id != key.id) continue;
      known = true;
      if (verifies(key, signature.bytes.data(), {manifest.data(), manifest.size()})) return Done{};
    }
  }
  if (known) {
    return failure(directory, "/glass.json: altered since it was signed, the signature is not of ",
                   "it; copy the artifact again, or have it signed again");
  }
  return failure(directory, "/: signed by ", found->front().key_id, ", not by a trusted key (",
                 ids_of(trusted), "); get it from who signs with one of these");
}

}  // namespace glass
