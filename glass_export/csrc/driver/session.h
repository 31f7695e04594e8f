// Text in, text out: opens an artifact and generates answers from it. As
// glass_export/runtime/session.py.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "driver/artifact.h"
#include "driver/clock.h"
#include "driver/driver.h"
#include "driver/sampler.h"
#include "driver/selection.h"
#include "driver/status.h"
#include "driver/text.h"

namespace glass {

class AnswerStream;

struct OpenOptions {
  int64_t threads = 0;        // of the engine; 0 lets it decide
  bool check_hashes = false;  // of all files, which takes seconds a gigabyte
  TrustedKeys trusted_keys;   // one of them must have signed it; hashes are then checked, too
  bool check_memory = true;   // whether the model fits before it is loaded
  int64_t memory_limit = 0;   // bytes to fit into; 0: what the system says is available
};

// What is to be answered: exactly one of these is given.
struct Prompt {
  std::string text;               // to be continued
  std::vector<Message> messages;  // the conversation so far
  std::vector<int64_t> tokens;
};

struct Request {
  Prompt prompt;
  SelectionSettings selection;
  SamplingSettings sampling;
  int64_t max_new_tokens = 128;
  std::vector<std::string> stop;  // strings that end the answer; they are not part of it
  bool reset = false;             // forget the conversation first; else what fits is reused
  // Ends the answer once it is true; another thread may set it. Null: never.
  const std::atomic<bool>* cancelled = nullptr;
  // Called with each piece of text as it becomes certain, whole UTF-8 characters, on the thread
  // that generates.
  std::function<void(const std::string&)> on_text;
};

// Why an answer ended: end of text or a stop string, max_new_tokens, a full context, or cancelled.
enum class FinishReason { kStop = 0, kLength = 1, kContext = 2, kCancelled = 3 };
const char* finish_reason_name(FinishReason reason);

// Times in milliseconds, speeds in tokens a second, as glass_export.runtime.stats.GenerationStats.
struct Figures {
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  // of the prompt, from the cache
  int64_t new_tokens = 0;
  double prefill_tps = 0;  // of the tokens that were computed
  double ttft_ms = 0;      // from the request to the first token
  double fusion_ms = 0;    // scores, fusion and top-K of the first choice
  double decode_tps = 0;   // from the second token on; 0 when there was none
  int64_t refreshes = 0;   // choices of neurons after the first token
  double refresh_ms = 0;   // their time, a part of what decode_tps counts
  double density = 0;
  int64_t kept_neurons = 0;
  double rss_mb = 0;  // the process's resident memory after the answer, in 10^6 bytes; 0: unknown
  double peak_rss_mb = 0;
};

struct Answer {
  std::string text;
  std::vector<int64_t> tokens;  // without the end-of-text token
  FinishReason reason = FinishReason::kStop;
  Figures figures;
};

// An opened artifact, and one conversation at a time. Not for use by several threads at once.
class Session {
 public:
  // Fails when the artifact is damaged, of a kind that this program does not run, or does not fit
  // into memory.
  static Result<std::unique_ptr<Session>> open(const std::string& directory,
                                               const OpenOptions& options);

  const Artifact& artifact() const { return artifact_; }
  const TextCodec& text() const { return *text_; }
  double load_ms() const { return load_ms_; }

  // Answers a prompt. The request is checked before any work is done. Cancelled before the first
  // token, the answer is empty. Fails when the request is not usable, or the engine fails.
  Result<Answer> generate(const Request& request);

  // Forgets the conversation.
  void reset() { driver_.reset(); }

 private:
  Session(Artifact artifact, std::unique_ptr<TextCodec> text, Driver driver, double load_ms);
  Result<Encoded> encode(const Request& request) const;
  Result<Answer> answer(const Request& request, const Encoded& prompt, Clock::time_point asked);
  Outcome decode_answer(const Request& request, Span<const float> logits, AnswerStream& output,
                        Clock::time_point asked, Answer& answer);
  bool ends(int64_t token) const;

  Artifact artifact_;
  std::unique_ptr<TextCodec> text_;
  Driver driver_;
  double load_ms_;
};

// Bytes that an artifact needs to run: its model and its key/value cache, and 15% for the rest.
int64_t needed_memory(const Artifact& artifact);

// The selection of an artifact with named settings in place of its own, as assign() takes them. The
// sensitivity belongs to shrinkage: with another fusion it is 0 unless it is given, too.
Result<SelectionSettings> selection_with(
    const SelectionSettings& defaults,
    const std::vector<std::pair<std::string, std::string>>& settings);

}  // namespace glass
