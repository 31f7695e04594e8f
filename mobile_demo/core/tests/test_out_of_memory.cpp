// Memory that runs out at any moment of the C interface's life over the fake engine:
// `test_out_of_memory DIRECTORY [STEP]`, an artifact of a small model with a chat template. Every
// STEP-th allocation fails (1: each), alone and with all after it. Each call must
// then return GLASS_OUT_OF_MEMORY, or have done without, and the session must be of use afterwards.
// Leaks are the sanitizer's to find.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "../../../tests/cpp/failing_memory.h"
#include "glass.h"

extern "C" {
void* __real_malloc(size_t size);
void* __real_calloc(size_t count, size_t size);
void* __real_realloc(void* memory, size_t size);
void* __wrap_malloc(size_t size) { return failing_memory::fails() ? nullptr : __real_malloc(size); }
void* __wrap_calloc(size_t count, size_t size) {
  return failing_memory::fails() ? nullptr : __real_calloc(count, size);
}
void* __wrap_realloc(void* memory, size_t size) {
  return failing_memory::fails() ? nullptr : __real_realloc(memory, size);
}
}

namespace {

const glass_message kTalk[] = {{"system", "Be brief."}, {"user", "the quick brown fox"}};
constexpr int64_t kEveryCallUntil = 400;  // of each part, whatever the step is

std::map<std::string, int64_t> outcomes;  // how often calls ended in which way
int failures = 0;

// What one call of the interface returned while memory failed.
void note(const char* call, glass_status status, int64_t n) {
  ++outcomes[std::string(call) + ": " + glass_status_name(status)];
  if (status == GLASS_OK || status == GLASS_OUT_OF_MEMORY) return;
  if (++failures > 20) return;
  std::fprintf(stderr, "%s, allocation %lld: %s, %s\n", call, static_cast<long long>(n),
               glass_status_name(status), glass_last_error());
}

void check(bool holds, const char* what, int64_t n) {
  if (holds) return;
  if (++failures <= 20)
    std::fprintf(stderr, "%s, allocation %lld\n", what, static_cast<long long>(n));
}

int32_t ignore(void*, const char*, size_t) { return 0; }

glass_request request_of(bool sampled) {
  static const char* const kStops[] = {"never in it"};
  static const glass_setting kSettings[] = {{"density", "0.5"}, {"refresh", "3"}};
  glass_request request;
  glass_request_init(&request);
  request.messages = kTalk;
  request.message_count = 2;
  request.max_new_tokens = 8;
  request.stop = kStops;
  request.stop_count = 1;
  request.settings = kSettings;
  request.setting_count = 2;
  request.on_text = ignore;
  if (!sampled) return request;
  request.temperature = 1;
  request.top_k = 40;
  request.top_p = 0.9;
  request.repetition_penalty = 1.2;
  request.has_seed = 1;
  request.seed = 3;
  return request;
}

std::vector<int64_t> tokens_of(const glass_answer* answer) {
  size_t count = 0;
  const int64_t* tokens = glass_answer_tokens(answer, &count);
  return {tokens, tokens + count};
}

std::vector<int64_t> answer_of(glass_session* session, bool sampled, int64_t n) {
  glass_request request = request_of(sampled);
  request.reset = 1;
  glass_answer* answer = nullptr;
  const glass_status status = glass_generate(session, &request, &answer);
  check(status == GLASS_OK, "the session is of no use afterwards", n);
  std::vector<int64_t> tokens = tokens_of(answer);
  glass_answer_free(answer);
  return tokens;
}

// Opens while the n-th allocation fails; returns whether one did.
bool open(const char* directory, int64_t n, bool lasting) {
  glass_session* session = nullptr;
  glass_open_options options;
  glass_open_options_init(&options);
  failing_memory::arm(n, lasting);
  const glass_status status = glass_open(directory, &options, &session);
  const bool failed = failing_memory::disarm();
  note("glass_open", status, n);
  check((status == GLASS_OK) == (session != nullptr), "a session without success", n);
  glass_close(session);
  return failed;
}

bool generate(glass_session* session, bool sampled, const std::vector<int64_t>& expected, int64_t n,
              bool lasting) {
  glass_request request = request_of(sampled);
  request.reset = 1;
  glass_answer* answer = nullptr;
  failing_memory::arm(n, lasting);
  const glass_status status = glass_generate(session, &request, &answer);
  const bool failed = failing_memory::disarm();
  note("glass_generate", status, n);
  if (status == GLASS_OK) check(tokens_of(answer) == expected, "another answer", n);
  glass_answer_free(answer);
  if (failed) check(answer_of(session, sampled, n) == expected, "another answer afterwards", n);
  return failed;
}

bool small_calls(glass_session* session, const char* directory, int64_t n, bool lasting) {
  char* text = nullptr;
  glass_cancellation* cancellation = nullptr;
  glass_request nothing;
  glass_request_init(&nothing);
  glass_answer* answer = nullptr;
  failing_memory::arm(n, lasting);
  const glass_status rendered = glass_render_chat(session, kTalk, 2, &text);
  const glass_status made = glass_cancellation_new(&cancellation);
  const glass_status verified = glass_verify(directory, cancellation);
  const glass_status refused = glass_generate(session, &nothing, &answer);
  const glass_status missing = glass_generate(session, nullptr, &answer);
  const glass_status reset = glass_reset(session);
  const bool failed = failing_memory::disarm();
  note("glass_render_chat", rendered, n);
  note("glass_cancellation_new", made, n);
  note("glass_verify", verified, n);
  note("glass_reset", reset, n);
  check(refused == GLASS_INVALID_ARGUMENT || refused == GLASS_OUT_OF_MEMORY, "not refused", n);
  check(missing == GLASS_INVALID_ARGUMENT || missing == GLASS_OUT_OF_MEMORY, "not refused", n);
  glass_text_free(text);
  glass_cancellation_free(cancellation);
  return failed;
}

// Runs a part with each allocation failing in turn, until it has fewer than that.
template <class Part>
int64_t every(int64_t step, bool lasting, const Part& part) {
  int64_t tried = 0;
  for (int64_t n = 0; part(n, lasting); n += n < kEveryCallUntil ? 1 : step) ++tried;
  return tried;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  const char* const directory = arguments[1];
  const int64_t step = count > 2 ? std::atoll(arguments[2]) : 1;
  int64_t opened = 0, generated = 0, small = 0;
  for (const bool lasting : {false, true}) {
    opened += every(step, lasting, [&](int64_t n, bool all) { return open(directory, n, all); });
  }
  glass_session* session = nullptr;
  if (glass_open(directory, nullptr, &session) != GLASS_OK) return 1;
  for (const bool sampled : {false, true}) {
    const std::vector<int64_t> expected = answer_of(session, sampled, -1);
    for (const bool lasting : {false, true}) {
      generated += every(step, lasting, [&](int64_t n, bool all) {
        return generate(session, sampled, expected, n, all);
      });
    }
  }
  for (const bool lasting : {false, true}) {
    small += every(step, lasting,
                   [&](int64_t n, bool all) { return small_calls(session, directory, n, all); });
  }
  glass_close(session);
  std::printf("allocations failed: %lld while opening, %lld while answering, %lld in other calls\n",
              static_cast<long long>(opened), static_cast<long long>(generated),
              static_cast<long long>(small));
  for (const auto& [outcome, times] : outcomes) {
    std::printf("%8lld %s\n", static_cast<long long>(times), outcome.c_str());
  }
  return failures == 0 ? 0 : 1;
}
