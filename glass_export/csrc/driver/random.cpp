// Sources: numpy/random/bit_generator.pyx (SeedSequence), numpy/random/src/pcg64 (PCG64, XSL-RR).
#include "driver/random.h"

#include <random>

namespace glass {
namespace {

Uint128 add(Uint128 a, Uint128 b) {
  const uint64_t low = a.low + b.low;
  return {a.high + b.high + (low < a.low ? 1 : 0), low};
}

// The 128-bit product of two 64-bit numbers, by halves.
Uint128 product(uint64_t a, uint64_t b) {
  const uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
  const uint64_t cross = a1 * b0 + ((a0 * b0) >> 32);
  const uint64_t middle = a0 * b1 + (cross & 0xffffffff);
  return {a1 * b1 + (cross >> 32) + (middle >> 32), (middle << 32) | ((a0 * b0) & 0xffffffff)};
}

Uint128 multiply(Uint128 a, Uint128 b) {
  Uint128 result = product(a.low, b.low);
  result.high += a.high * b.low + a.low * b.high;
  return result;
}

constexpr Uint128 kMultiplier = {2549297995355413924u, 4865540595714422341u};

// SeedSequence with a pool of four words.
class SeedSequence {
 public:
  explicit SeedSequence(uint64_t seed) {
    const std::array<uint32_t, 4> entropy = {static_cast<uint32_t>(seed),
                                             static_cast<uint32_t>(seed >> 32), 0, 0};
    for (size_t i = 0; i < 4; ++i) pool_[i] = hashed(entropy[i]);
    for (size_t from = 0; from < 4; ++from) {
      for (size_t to = 0; to < 4; ++to) {
        if (from != to) pool_[to] = mixed(pool_[to], hashed(pool_[from]));
      }
    }
  }

  // generate_state(4, uint64).
  std::array<uint64_t, 4> state() const {
    std::array<uint64_t, 4> words{};
    uint32_t constant = 0x8b51f9dd;
    for (size_t i = 0; i < 8; ++i) {
      uint32_t word = pool_[i % 4] ^ constant;
      constant *= 0x58f38ded;
      word *= constant;
      word ^= word >> 16;
      words[i / 2] |= static_cast<uint64_t>(word) << (i % 2 * 32);
    }
    return words;
  }

 private:
  uint32_t hashed(uint32_t value) {
    value ^= constant_;
    constant_ *= 0x931e8875;
    value *= constant_;
    return value ^ (value >> 16);
  }

  static uint32_t mixed(uint32_t x, uint32_t y) {
    const uint32_t result = 0xca01f9ddu * x - 0x4973f715u * y;
    return result ^ (result >> 16);
  }

  uint32_t constant_ = 0x43b0d7e5;
  std::array<uint32_t, 4> pool_{};
};

}  // namespace

Random::Random(uint64_t seed) {
  const std::array<uint64_t, 4> words = SeedSequence(seed).state();
  increment_ = {(words[2] << 1) | (words[3] >> 63), (words[3] << 1) | 1};
  step();
  state_ = add(state_, {words[0], words[1]});
  step();
}

void Random::step() { state_ = add(multiply(state_, kMultiplier), increment_); }

uint64_t Random::next() {
  step();
  const uint64_t value = state_.high ^ state_.low;
  const auto turn = static_cast<unsigned>(state_.high >> 58);
  return (value >> turn) | (value << ((64 - turn) & 63));
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

uint64_t fresh_seed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace glass
