#include "fake_engine.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "driver/backend.h"
#include "driver/span.h"

namespace {

std::atomic<int32_t> delay_ms{0}, fault_kind{0};
std::atomic<int64_t> engines{0}, prefills{0};

uint64_t mixed(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

float unit(uint64_t x) { return static_cast<float>(mixed(x) >> 40) * 0x1p-24f; }

class FakeEngine final : public glass::Backend {
 public:
  explicit FakeEngine(const glass::ModelInfo& model)
      : model_(model),
        logits_(static_cast<size_t>(model.vocab_size)),
        abs_sum_(static_cast<size_t>(model.layers * model.d_ff)),
        sq_sum_(abs_sum_.size()) {
    ++engines;
  }
  ~FakeEngine() override { --engines; }

  glass::Parallel parallel() override { return glass::serial(); }

  glass::Result<glass::PrefillViews> prefill(glass::Span<const int64_t> tokens, int64_t position,
                                             glass::Span<const float> score_weights) override {
    ++prefills;
    if (tokens.size > static_cast<size_t>(model_.prefill_chunk)) {
      return glass::failure("prefill: got ", tokens.size, " tokens in a call");
    }
    abs_sum_.assign(abs_sum_.size(), 0);
    for (size_t i = 0; i < tokens.size; ++i) {
      if (auto put = append(tokens[i], position + static_cast<int64_t>(i)); !put) {
        return put.failure();
      }
      for (size_t n = 0; n < abs_sum_.size(); ++n) {
        abs_sum_[n] += score_weights[i] * unit(state_.back() ^ n);
      }
    }
    for (size_t n = 0; n < abs_sum_.size(); ++n) sq_sum_[n] = abs_sum_[n] * 0.5f;
    return glass::PrefillViews{logits(0), glass::all(std::as_const(abs_sum_)),
                               glass::all(std::as_const(sq_sum_))};
  }

  glass::Outcome select(std::vector<int32_t> neurons) override {
    neurons_ = 0;
    for (const int32_t neuron : neurons) neurons_ = mixed(neurons_ ^ static_cast<uint64_t>(neuron));
    return glass::Done{};
  }

  glass::Result<glass::Span<const float>> decode(int64_t token, int64_t position) override {
    if (auto put = append(token, position); !put) return put.failure();
    return logits(neurons_);
  }

 private:
  // Writes a token's state, which depends on all before it, as a key/value cache does.
  glass::Outcome append(int64_t token, int64_t position) {
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    if (fault_kind == 1) return glass::failure("fake engine: told to fail");
    if (position > static_cast<int64_t>(state_.size()) || position >= model_.max_length) {
      return glass::failure("fake engine: position ", position, " was never reached");
    }
    state_.resize(static_cast<size_t>(position));
    const uint64_t before = state_.empty() ? 0 : state_.back();
    state_.push_back(mixed(before ^ static_cast<uint64_t>(token)));
    return glass::Done{};
  }

  glass::Span<const float> logits(uint64_t neurons) {
    for (size_t i = 0; i < logits_.size(); ++i) {
      logits_[i] = fault_kind == 2 ? NAN : 4 * unit(state_.back() ^ neurons ^ (i << 32));
    }
    return glass::all(std::as_const(logits_));
  }

  glass::ModelInfo model_;
  std::vector<uint64_t> state_;  // by position
  uint64_t neurons_ = 0;
  std::vector<float> logits_, abs_sum_, sq_sum_;
};

}  // namespace

void fake_engine_delay(int32_t milliseconds) { delay_ms = milliseconds; }
int64_t fake_engine_count(void) { return engines; }
int64_t fake_engine_prefills(void) { return prefills; }
void fake_engine_fault(int32_t fault) { fault_kind = fault; }

namespace glass {

Result<std::unique_ptr<Backend>> open_backend(const Artifact& artifact, int64_t) {
  return std::unique_ptr<Backend>(std::make_unique<FakeEngine>(artifact.model));
}

}  // namespace glass
