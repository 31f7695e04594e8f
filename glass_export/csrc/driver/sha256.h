// SHA-256 of files and texts.
#pragma once

#include <memory>
#include <string>

#include "glass/base.h"

namespace glass {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(Span<const char> bytes);

  // The digest of all bytes in hex; the object is then used up.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Of some bytes, in hex.
std::string sha256(Span<const char> bytes);

}  // namespace glass
