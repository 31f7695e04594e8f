// Signs and checks for test_signature.py: a line for each request on standard input, answered by a
// line on standard output. KEY, SECRET, SIGNATURE and MESSAGE are hex, - is an empty message.
//
//   verify KEY SIGNATURE MESSAGE -> yes or no
//   sign SECRET KEY MESSAGE      -> the signature
//   open DIRECTORY BASE64-KEY... -> ok, or the code and the message of the failure
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

extern "C" {
#include <sodium/crypto_sign_ed25519.h>
}

#include "driver/artifact.h"
#include "driver/signature.h"

namespace {

std::string from_hex(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

const unsigned char* bytes_of(const std::string& text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string verify(std::istream& words) {
  std::string key_hex, signature, message;
  words >> key_hex >> signature >> message;
  const std::string raw = from_hex(key_hex), content = from_hex(message);
  glass::PublicKey key;
  for (size_t i = 0; i < key.bytes.size(); ++i) key.bytes[i] = bytes_of(raw)[i];
  const std::string sixty_four = from_hex(signature);
  return glass::verifies(key, bytes_of(sixty_four), {content.data(), content.size()}) ? "yes"
                                                                                      : "no";
}

std::string sign(std::istream& words) {
  std::string secret, key, message;
  words >> secret >> key >> message;
  const std::string pair = from_hex(secret + key), content = from_hex(message);
  unsigned char signature[crypto_sign_ed25519_BYTES];
  crypto_sign_ed25519_detached(signature, nullptr, bytes_of(content), content.size(),
                               bytes_of(pair));
  std::string digits;
  for (const unsigned char byte : signature) {
    digits += "0123456789abcdef"[byte >> 4];
    digits += "0123456789abcdef"[byte & 15];
  }
  return digits;
}

std::string open(std::istream& words) {
  std::string directory, keys;
  words >> directory;
  std::getline(words, keys);
  const auto trusted = glass::parse_trusted_keys(keys);
  if (!trusted) return trusted.failure().message;
  const auto artifact = glass::Artifact::open(directory, *trusted);
  const glass::Outcome sound =
      artifact ? artifact->check_hashes(nullptr) : glass::Outcome(artifact.failure());
  if (sound) return "ok";
  return std::to_string(static_cast<int>(sound.failure().code)) + " " + sound.failure().message;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    const std::string answer = command == "verify" ? verify(words)
                               : command == "sign" ? sign(words)
                                                   : open(words);
    std::cout << answer << std::endl;
  }
  return 0;
}
