// rotary_attention against its definition in double, for every instruction set. What no token may
// see is NaN.
#include <algorithm>
#include <cmath>

#include "arrays.h"
#include "check.h"
#include "glass/attention.h"
#include "thread_parallel.h"

namespace glass::test {
namespace {

// The arrays of one call, filled at random.
struct Case {
  AttentionShape shape;
  AttentionParams params;
  Floats packed;  // [S,(H+2G)*E]: query, key and value side by side
  Floats cos, sin, keys, values;

  Case(const AttentionShape& s, const AttentionParams& p, uint64_t seed) : shape(s), params(p) {
    Random random(seed);
    packed = random.values(s.tokens * stride(), 3.0f);
    const Floats angles = random.values(s.cache_len * s.rotary / 2, 3.0f);
    for (const float angle : angles) cos.push_back(std::cos(angle)), sin.push_back(std::sin(angle));
    keys = random.values(s.kv_heads * s.cache_len * s.head_dim);
    values = random.values(s.kv_heads * s.cache_len * s.head_dim);
    hide_unseen();
  }

  int64_t stride() const { return (shape.heads + 2 * shape.kv_heads) * shape.head_dim; }

  int64_t first_seen(int64_t token) const {
    const int64_t first = params.position + token + 1 - params.window;
    return params.window == 0 ? 0 : std::max<int64_t>(first, 0);
  }

  size_t cached(int64_t head, int64_t position) const {
    return static_cast<size_t>((head * shape.cache_len + position) * shape.head_dim);
  }

  void hide_unseen() {
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      for (int64_t c = 0; c < shape.cache_len; ++c) {
        if (c >= first_seen(0) && c < params.position) continue;
        std::fill_n(&keys[cached(head, c)], shape.head_dim, kNan);
        std::fill_n(&values[cached(head, c)], shape.head_dim, kNan);
      }
    }
  }

  QkvRows rows() const {
    const float* key = packed.data() + shape.heads * shape.head_dim;
    return {packed.data(), key,      key + shape.kv_heads * shape.head_dim,
            stride(),      stride(), stride()};
  }

  // Head `head` of a token's query (0..H-1) or key (H..H+G-1), rotated.
  std::vector<double> rotated(int64_t token, int64_t head) const {
    const float* x = packed.data() + token * stride() + head * shape.head_dim;
    std::vector<double> y(x, x + shape.head_dim);
    const int64_t half = shape.rotary / 2, row = (params.position + token) * half;
    for (int64_t i = 0; i < half; ++i) {
      const double c = cos[size_t(row + i)], s = sin[size_t(row + i)];
      y[size_t(i)] = x[i] * c - x[half + i] * s;
      y[size_t(half + i)] = x[half + i] * c + x[i] * s;
    }
    return y;
  }

  // Key or value of a cache position; those from `position` on are this call's.
  std::vector<double> key_at(int64_t head, int64_t c) const {
    if (c >= params.position) return rotated(c - params.position, shape.heads + head);
    return {&keys[cached(head, c)], &keys[cached(head, c)] + shape.head_dim};
  }

  std::vector<double> value_at(int64_t head, int64_t c) const {
    const float* value = &values[cached(head, c)];
    if (c >= params.position) {
      value = rows().value + (c - params.position) * stride() + head * shape.head_dim;
    }
    return {value, value + shape.head_dim};
  }

  std::vector<double> expected(int64_t token, int64_t head) const {
    const int64_t group = head * shape.kv_heads / shape.heads;
    const auto query = rotated(token, head);
    std::vector<double> y(query.size());
    double total = 0.0;
    for (int64_t c = first_seen(token); c <= params.position + token; ++c) {
      const auto key = key_at(group, c), value = value_at(group, c);
      double logit = 0.0;
      for (size_t i = 0; i < key.size(); ++i) logit += query[i] * key[i] * params.scale;
      if (params.softcap > 0) logit = params.softcap * std::tanh(logit / params.softcap);
      const double weight = std::exp(logit);
      total += weight;
      for (size_t i = 0; i < key.size(); ++i) y[i] += weight * value[i];
    }
    for (double& v : y) v /= total;
    return y;
  }
};

void check_case(const Case& given, int64_t threads) {
  const AttentionShape& shape = given.shape;
  Case call = given;
  Floats y(static_cast<size_t>(shape.tokens * shape.heads * shape.head_dim), kNan);
  TightScratch scratch(rotary_attention_scratch(shape, threads));
  ThreadParallel parallel(threads);
  CHECK(rotary_attention(shape, call.params, call.rows(), view(call.cos), view(call.sin),
                         span(call.keys), span(call.values), span(y), scratch.get(),
                         parallel.get()) == Status::kOk);
  for (int64_t token = 0; token < shape.tokens; ++token) {
    for (int64_t head = 0; head < shape.heads; ++head) {
      const auto expected = given.expected(token, head);
      const float* actual = &y[size_t((token * shape.heads + head) * shape.head_dim)];
      for (int64_t i = 0; i < shape.head_dim; ++i) {
        CHECK_NEAR(actual[i], expected[size_t(i)], 3e-5);
      }
    }
  }
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    for (int64_t c = given.params.position; c < given.params.position + shape.tokens; ++c) {
      const auto key = given.key_at(head, c), value = given.value_at(head, c);
      for (size_t i = 0; i < key.size(); ++i) {
        CHECK_NEAR(call.keys[call.cached(head, c) + i], key[i], 1e-5);
        CHECK_NEAR(call.values[call.cached(head, c) + i], value[i], 0.0);
      }
    }
  }
}

AttentionParams at(int64_t position, int64_t window = 0, float softcap = 0.0f) {
  return {position, 0.3f, window, softcap};
}

// Shapes as {tokens, heads, kv_heads, head_dim, cache_len, rotary}.
void test_cases() {
  check_case(Case({1, 1, 1, 2, 1, 0}, at(0), 1), 1);               // the smallest; a full cache
  check_case(Case({1, 9, 3, 64, 200, 64}, at(150), 2), 2);         // decode, keys in two blocks
  check_case(Case({1, 9, 3, 64, 200, 64}, at(150, 20), 3), 4);     // decode with a window
  check_case(Case({65, 6, 2, 20, 65, 12}, at(0), 4), 3);           // prefill, part of E rotated
  check_case(Case({65, 6, 2, 20, 200, 20}, at(135), 5), 2);        // prefill up to the cache's end
  check_case(Case({40, 4, 4, 17, 64, 16}, at(7, 5), 6), 2);        // a window below the block
  check_case(Case({40, 4, 1, 33, 64, 0}, at(3, 30, 2.0f), 7), 1);  // softcap
  check_case(Case({7, 14, 2, 16, 300, 16}, at(290, 1), 8), 3);     // sees itself alone
  check_case(Case({2, 130, 1, 4, 8, 4}, at(2), 9), 2);             // a group beyond kQueryBlock
}

// Fails with `status` and leaves the caches as they are.
void check_refused(const Case& given, Status status, size_t y_size, size_t less_scratch = 0) {
  Case call = given;
  std::fill(call.keys.begin(), call.keys.end(), 7.0f);
  const Floats before = call.keys;
  Floats y(y_size);
  TightScratch scratch(rotary_attention_scratch({1, 1, 1, 4, 4, 4}, 1) - less_scratch);
  CHECK(rotary_attention(call.shape, call.params, call.rows(), view(call.cos), view(call.sin),
                         span(call.keys), span(call.values), span(y), scratch.get(),
                         serial()) == status);
  CHECK(call.keys == before);
}

void test_bad_input() {
  const AttentionShape shape{2, 2, 1, 4, 4, 4};
  const Case good(shape, at(1), 1);
  check_refused(good, Status::kInvalidArgument, 15);
  check_refused(good, Status::kScratchTooSmall, 16, 1);
  const auto with = [&](auto change) {
    Case bad = good;
    change(bad);
    return bad;
  };
  const Case full = with([](Case& c) { c.params.position = 3; });
  check_refused(full, Status::kContextFull, 16);
  const Case cases[] = {
      with([](Case& c) { c.params.position = -1; }),
      with([](Case& c) { c.params.window = -1; }),
      with([](Case& c) { c.params.softcap = -1.0f; }),
      with([](Case& c) { c.params.scale = kNan; }),
      with([](Case& c) { c.shape.rotary = 3; }),
      with([](Case& c) { c.shape.rotary = 6; }),
      with([](Case& c) { c.shape.kv_heads = 0; }),
      with([](Case& c) { c.shape.heads = 3, c.shape.kv_heads = 2; }),
      with([](Case& c) { c.cos.pop_back(); }),
      with([](Case& c) { c.keys.pop_back(); }),
      with([](Case& c) { c.values.pop_back(); }),
  };
  for (const Case& bad : cases) check_refused(bad, Status::kInvalidArgument, 16);
}

}  // namespace
}  // namespace glass::test

int main() {
  using namespace glass::test;
  for_each_isa([] { test_cases(); });
  test_bad_input();
  return check_result();
}
