#include "driver/sha256.h"

extern "C" {
#include <sha256.h>
}

namespace glass {

struct Sha256::State {
  sha256_t value;
};

Sha256::Sha256() : state_(std::make_unique<State>()) { sha256_init(&state_->value); }
Sha256::~Sha256() = default;

void Sha256::update(Span<const char> bytes) {
  sha256_update(&state_->value, reinterpret_cast<const unsigned char*>(bytes.data), bytes.size);
}

std::string Sha256::hex() {
  unsigned char digest[SHA256_DIGEST_SIZE];
  sha256_final(&state_->value, digest);
  std::string text;
  for (const unsigned char byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

std::string sha256(Span<const char> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

}  // namespace glass
