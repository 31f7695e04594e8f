#include "driver/session.h"

#include <algorithm>
#include <future>
#include <utility>

#include "driver/answer_stream.h"
#include "driver/memory.h"
#include "driver/span.h"
#include "driver/tokenizer/unicode.h"

namespace glass {
namespace {

double per_second(int64_t count, double elapsed_ms) {
  return elapsed_ms > 0 ? static_cast<double>(count) / elapsed_ms * 1e3 : 0;
}

double megabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

Outcome check_memory(const Artifact& artifact, const OpenOptions& options) {
  const int64_t limit = options.memory_limit > 0 ? options.memory_limit : available_memory();
  const int64_t needed = needed_memory(artifact);
  if (!options.check_memory || limit == 0 || needed <= limit) return Done{};
  return failure(artifact.directory, ": needs about ", needed / 1000000, " MB of memory, ",
                 limit / 1000000, " MB are available; close other programs, or use an artifact of ",
                 "fewer bits or of a smaller model")
      .as(ErrorCode::kOutOfMemory);
}

Outcome check_request(const Request& request) {
  const Prompt& prompt = request.prompt;
  const int given = !prompt.text.empty() + !prompt.messages.empty() + !prompt.tokens.empty();
  if (given != 1) {
    return failure("prompt: got ", given, " of text, messages and tokens; give one of them, ",
                   "not empty");
  }
  if (request.max_new_tokens < 1) {
    return failure("max_new_tokens: got ", request.max_new_tokens,
                   ", expected a whole number of at least 1");
  }
  for (const std::string& stop : request.stop) {
    if (stop.empty() || !is_utf8(stop)) {
      return failure("stop: got '", stop, "', expected UTF-8 strings that are not empty");
    }
  }
  return check_sampling(request.sampling);
}

}  // namespace

int64_t needed_memory(const Artifact& artifact) {
  const ModelInfo& model = artifact.model;
  const double cache = 2.0 * sizeof(float) * static_cast<double>(model.layers) *
                       static_cast<double>(model.kv_heads * model.head_dim) *
                       static_cast<double>(model.max_length);
  return static_cast<int64_t>(1.15 * (static_cast<double>(artifact.model_bytes()) + cache));
}

Result<SelectionSettings> selection_with(
    const SelectionSettings& defaults,
    const std::vector<std::pair<std::string, std::string>>& settings) {
  SelectionSettings selection = defaults;
  bool fused = false, sensitive = false;
  for (const auto& [name, value] : settings) {
    if (Outcome set = assign(selection, name, value); !set) {
      return set.failure().as(ErrorCode::kInvalidArgument);
    }
    fused |= name == "fusion";
    sensitive |= name == "sensitivity";
  }
  if (fused && !sensitive && selection.rule.fusion != Fusion::kShrinkage) selection.sensitivity = 0;
  return selection;
}

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "";
}

Session::Session(Artifact artifact, std::unique_ptr<TextCodec> text, Driver driver, double load_ms)
    : artifact_(std::move(artifact)),
      text_(std::move(text)),
      driver_(std::move(driver)),
      load_ms_(load_ms) {}

Result<std::unique_ptr<Session>> Session::open(const std::string& directory,
                                               const OpenOptions& options) {
  const Clock::time_point start = Clock::now();
  Result<Artifact> artifact = Artifact::open(directory, options.trusted_keys);
  if (!artifact) return artifact.failure();
  if (options.check_hashes || !options.trusted_keys.empty()) {
    if (Outcome sound = artifact->check_hashes(nullptr); !sound) return sound.failure();
  }
  if (Outcome fits = check_memory(*artifact, options); !fits) return fits.failure();
  // The engine loads on another thread, where there is one: half of the time is the tokenizer's.
  std::future<Result<std::unique_ptr<Backend>>> opening =
      std::async([&] { return open_backend(*artifact, options.threads); });
  Result<std::unique_ptr<TextCodec>> text = open_text_codec(*artifact);
  if (!text) return text.failure();
  const ModelInfo& model = artifact->model;
  Priors priors(model.rows(), model.d_ff, model.expert_rows > 0);
  const Outcome read = priors.load(artifact->file("prior.safetensors"), artifact->statistics);
  if (!read) return read.failure();
  Result<std::unique_ptr<Backend>> backend = opening.get();
  if (!backend) return backend.failure().as(ArtifactCode::kGraph);
  Driver driver(std::move(*backend), model, std::move(priors));
  const double load_ms = milliseconds(start, Clock::now());
  return std::unique_ptr<Session>(
      new Session(std::move(*artifact), std::move(*text), std::move(driver), load_ms));
}

Result<Encoded> Session::encode(const Request& request) const {
  const Prompt& prompt = request.prompt;
  Encoded given{prompt.tokens, text_->weights_of(prompt.tokens)};
  Result<Encoded> encoded = !prompt.text.empty()       ? text_->encode(prompt.text)
                            : !prompt.messages.empty() ? text_->encode(prompt.messages)
                                                       : Result<Encoded>(std::move(given));
  if (!encoded) return encoded;
  if (request.selection.local_tokens == LocalTokens::kAll) {
    encoded->weights.assign(encoded->tokens.size(), 1.0f);
  }
  return encoded;
}

Result<Answer> Session::generate(const Request& request) {
  const Clock::time_point asked = Clock::now();
  if (Outcome valid = check_request(request); !valid) {
    return valid.failure().as(ErrorCode::kInvalidArgument);
  }
  const Result<Encoded> prompt = encode(request);
  if (!prompt) return prompt.failure();
  if (request.reset) driver_.reset();
  driver_.watch(request.cancelled);
  Result<Answer> result = answer(request, *prompt, asked);
  driver_.watch(nullptr);
  if (!result) return result.failure().as(ErrorCode::kEngine);
  const ResidentMemory memory = resident_memory();
  Figures& figures = result->figures;
  figures.prompt_tokens = static_cast<int64_t>(prompt->tokens.size());
  figures.new_tokens = static_cast<int64_t>(result->tokens.size());
  figures.density = request.selection.density;
  figures.kept_neurons = kept_neurons(request.selection.density, artifact_.model.d_ff);
  figures.rss_mb = megabytes(memory.now);
  figures.peak_rss_mb = megabytes(memory.peak);
  return result;
}

Result<Answer> Session::answer(const Request& request, const Encoded& prompt,
                               Clock::time_point asked) {
  Answer answer;
  const Clock::time_point start = Clock::now();
  const Result<Prompted> prompted = driver_.prefill(all(prompt.tokens), all(prompt.weights));
  if (!prompted && prompted.failure().code == ErrorCode::kCancelled) {
    answer.reason = FinishReason::kCancelled;
    return answer;
  }
  if (!prompted) return prompted.failure();
  const Clock::time_point prefilled = Clock::now();
  if (Outcome chosen = driver_.select(request.selection); !chosen) return chosen.failure();
  const auto computed = static_cast<int64_t>(prompt.tokens.size()) - prompted->reused;
  answer.figures.reused_tokens = prompted->reused;
  answer.figures.prefill_tps = per_second(computed, milliseconds(start, prefilled));
  answer.figures.fusion_ms = milliseconds(prefilled, Clock::now());

  AnswerStream output(text_->stream(), request.stop, request.on_text);
  const Outcome decoded = decode_answer(request, prompted->logits, output, asked, answer);
  if (!decoded && decoded.failure().code != ErrorCode::kCancelled) return decoded.failure();
  if (output.close()) answer.reason = FinishReason::kStop;
  if (!decoded) answer.reason = FinishReason::kCancelled;
  answer.text = output.text();
  answer.figures.refreshes = driver_.refresh_figures().count;
  answer.figures.refresh_ms = driver_.refresh_figures().ms;
  return answer;
}

// Samples and decodes until the answer ends.
Outcome Session::decode_answer(const Request& request, Span<const float> logits,
                               AnswerStream& output, Clock::time_point asked, Answer& answer) {
  Sampler sampler(request.sampling);
  Clock::time_point first, last;
  for (int64_t sampled = 1;; ++sampled) {
    const Result<int64_t> token = sampler.sample(logits, driver_.tokens());
    if (!token) {
      driver_.reset();  // what the cache holds is not to be trusted
      return token.failure();
    }
    last = Clock::now();
    if (sampled == 1) first = last;
    answer.figures.ttft_ms = milliseconds(asked, first);
    answer.figures.decode_tps = per_second(sampled - 1, milliseconds(first, last));
    if (ends(*token)) return Done{};
    answer.tokens.push_back(*token);
    if (output.write(*token)) return Done{};
    answer.reason = FinishReason::kLength;
    if (static_cast<int64_t>(answer.tokens.size()) == request.max_new_tokens) return Done{};
    answer.reason = FinishReason::kContext;
    if (static_cast<int64_t>(driver_.tokens().size()) == artifact_.model.max_length) return Done{};
    answer.reason = FinishReason::kStop;
    Result<Span<const float>> next = driver_.decode(*token);
    if (!next) return next.failure();
    logits = *next;
  }
}

bool Session::ends(int64_t token) const {
  const std::vector<int64_t>& ids = artifact_.model.eos_token_ids;
  return std::find(ids.begin(), ids.end(), token) != ids.end();
}

}  // namespace glass
