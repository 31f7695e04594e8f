// The random numbers of NumPy's default_rng: PCG64 seeded by SeedSequence, so that a seed gives the
// same answer in Python and here.
#pragma once

#include <array>
#include <cstdint>

namespace glass {

// A 128-bit unsigned number; 32-bit processors have no type for it.
struct Uint128 {
  uint64_t high = 0;
  uint64_t low = 0;
};

class Random {
 public:
  // As numpy.random.default_rng(seed).
  explicit Random(uint64_t seed);

  // As Generator.random(): uniform in [0, 1).
  double uniform();

 private:
  void step();
  uint64_t next();

  Uint128 state_;
  Uint128 increment_;
};

// A seed that differs from call to call.
uint64_t fresh_seed();

}  // namespace glass
