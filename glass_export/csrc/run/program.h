// The methods of an exported .pte as typed calls over the ExecuTorch runtime.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "glass/base.h"
#include "run/status.h"

namespace executorch::extension::module {
class Module;
}

namespace glass::run {

// What a prefill call returns; views of the runtime's memory, valid until the next call.
struct PrefillViews {
  Span<const float> logits;   // [V]
  Span<const float> abs_sum;  // [L,F]
  Span<const float> sq_sum;   // [L,F]
};

// An opened .pte. Every call overwrites what the one before returned: the methods share memory.
class Program {
 public:
  // Opens the file and checks that it has the methods of an export. `threads` 0 keeps the default.
  static Result<Program> open(const std::string& path, int64_t threads);

  Program(Program&&) noexcept;
  ~Program();

  // The runtime's threads.
  static Parallel parallel();

  // Loads prefill and decode, so that their first call is no slower than the others.
  Outcome load();

  // The text of get_metadata.
  Result<std::string> metadata();

  // A constant tensor, copied; empty when the program has no such method.
  Result<std::vector<float>> constant(const std::string& method);

  // Logits of the last token only.
  Result<PrefillViews> prefill(Span<const int64_t> tokens, int64_t position,
                               Span<const float> score_weights);

  // neurons [L,K], L = layers; rows may end in kNeuronPadding.
  Result<Span<const float>> decode(int64_t token, int64_t position, Span<const int32_t> neurons,
                                   int64_t layers);

 private:
  Program(std::string path, std::unique_ptr<executorch::extension::module::Module> module);

  std::string path_;
  std::unique_ptr<executorch::extension::module::Module> module_;
};

}  // namespace glass::run
