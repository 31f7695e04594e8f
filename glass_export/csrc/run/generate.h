// The algorithm: prefill, choose neurons, decode greedily. As glass_export/runtime/session.py.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "run/clock.h"
#include "run/model.h"
#include "run/selection.h"
#include "run/status.h"

namespace glass::run {

struct Request {
  std::vector<int64_t> tokens;  // the prompt
  SelectionSettings selection;
  int64_t max_new_tokens = 128;
  Clock::time_point asked = Clock::now();  // from when on the first token is timed
};

// Why an answer ended: end of text, max_new_tokens, or a full context.
enum class FinishReason { kStop, kLength, kContext };
const char* finish_reason_name(FinishReason reason);

// Times in milliseconds, speeds in tokens a second, as glass_export.runtime.stats.GenerationStats.
struct Figures {
  int64_t prompt_tokens = 0;
  double prefill_tps = 0;
  double ttft_ms = 0;     // from the request to the first token
  double fusion_ms = 0;   // scores, fusion and top-K
  double decode_tps = 0;  // from the second token on; 0 when there was none
  int64_t refreshes = 0;  // choices of neurons after the first token
  double refresh_ms = 0;  // their time, a part of what decode_tps counts
  int64_t kept_neurons = 0;
};

struct Answer {
  std::vector<int64_t> tokens;  // without the end-of-text token
  FinishReason reason = FinishReason::kStop;
  Figures figures;
};

// Score weight of every prompt token: 0 for special tokens, 1 for the others; all 1 when the prompt
// has only special ones, or when all tokens count.
std::vector<float> score_weights(const std::vector<int64_t>& tokens,
                                 const std::vector<int64_t>& special, LocalTokens counted);

// The most likely token, of equals the lowest. Fails when no finite maximum exists.
Result<int64_t> greedy(Span<const float> logits);

// Answers a prompt in a fresh conversation. on_token is called with each token of the answer.
Result<Answer> generate(Model& model, const Request& request,
                        const std::function<void(int64_t)>& on_token);

}  // namespace glass::run
