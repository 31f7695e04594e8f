// Choosing the next token from logits, as glass_export/runtime/sampler.py: the same steps in the
// same order and the same random numbers. Exponentials may differ from NumPy's in the last bit, so
// a seed gives the same tokens unless a draw falls within rounding of the border of two of them.
//
// Legend: V vocabulary.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "driver/random.h"
#include "driver/status.h"
#include "glass/base.h"

namespace glass {

struct SamplingSettings {
  double temperature = 0;         // divides the logits; 0 takes the most likely token
  int64_t top_k = 0;              // keeps the k most likely tokens; 0 keeps all
  double top_p = 1;               // keeps the fewest tokens whose probabilities reach p
  double min_p = 0;               // keeps tokens this share as likely as the most likely one
  double repetition_penalty = 1;  // above 1 makes tokens of the conversation less likely
  std::optional<uint64_t> seed;   // of the random numbers; by default a fresh one
};

// Fails when a setting is out of its range.
Outcome check_sampling(const SamplingSettings& settings);

// The most likely token, of equals the lowest. Fails when there is no finite maximum.
Result<int64_t> greedy(Span<const float> logits);

class Sampler {
 public:
  explicit Sampler(const SamplingSettings& settings)
      : settings_(settings), random_(settings.seed ? *settings.seed : fresh_seed()) {}

  // Chooses a token by logits [V]. `context`: tokens of prompt and answer so far, for the
  // repetition penalty. Fails when the logits hold NaN or +infinity, or nothing above -infinity.
  Result<int64_t> sample(Span<const float> logits, const std::vector<int64_t>& context);

 private:
  struct Candidate {
    int64_t token;
    double value;  // its score, then its probability
  };

  void penalise(Span<const float> logits, const std::vector<int64_t>& context);
  void keep_top_k();
  void to_probabilities();
  void keep_nucleus();
  void keep_likely();
  void keep_from(double least);
  int64_t draw();

  SamplingSettings settings_;
  Random random_;
  std::vector<float> scores_;          // [V], only with a penalty
  std::vector<Candidate> candidates_;  // ascending by token
  std::vector<double> sorted_;
};

}  // namespace glass
