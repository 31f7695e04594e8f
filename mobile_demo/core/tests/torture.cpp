// Sessions under load: `torture DIRECTORY GENERATIONS THREADS [SEED]`, an artifact of a small model
// with a chat template. Each thread has a session of its own, and answers random requests: one
// token, a chat, more than the context holds, every extreme of sampling, settings that must be
// refused, cancelled at random instants by another thread. Prints the memory that the process grew
// by; the exit status is 1 when a call returned what it must not, or memory grew with the number of
// generations.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "glass.h"

namespace {

constexpr double kMaxGrowth = 100;  // bytes of resident memory a generation
constexpr double kSlack = 2e6;      // bytes: pages that the allocator takes or gives back

// Sanitizers keep what is freed, so they grow; leaks are theirs to find.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

std::atomic<int64_t> done{0}, cancelled{0}, refused{0}, overflowed{0}, wrong{0};
std::mutex samples_lock;
std::vector<std::pair<double, double>> samples;  // generations so far, resident bytes

using Random = std::mt19937_64;

template <class T>
T pick(Random& random, std::initializer_list<T> values) {
  return values.begin()[random() % values.size()];
}

void complain(const char* what, glass_status status) {
  if (++wrong > 20) return;
  std::fprintf(stderr, "%s: %s, %s\n", what, glass_status_name(status), glass_last_error());
}

void set_extremes(Random& random, glass_request& request) {
  request.temperature = pick(random, {0.0, 1e-9, 1.0, 1e9});
  request.top_k = pick<int64_t>(random, {0, 1, 40, std::numeric_limits<int64_t>::max()});
  request.top_p = pick(random, {1e-300, 0.5, 1.0});
  request.min_p = pick(random, {0.0, 0.1, 1.0});
  request.repetition_penalty = pick(random, {1e-3, 1.0, 1.3, 1e6});
  request.has_seed = 1;
  request.seed = random();
}

// One field that no request may have.
void spoil(Random& random, glass_request& request) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  switch (random() % 6) {
    case 0:
      request.temperature = pick(random, {nan, infinity, -1.0});
      break;
    case 1:
      request.top_k = -1;
      break;
    case 2:
      request.top_p = pick(random, {nan, infinity, 0.0, -0.5, 1.5});
      break;
    case 3:
      request.min_p = pick(random, {nan, -infinity, -0.1, 1.1});
      break;
    case 4:
      request.repetition_penalty = pick(random, {nan, infinity, 0.0, -1.0});
      break;
    default:
      request.max_new_tokens = pick<int64_t>(random, {0, -1});
  }
}

struct Talk {
  std::string text;
  glass_message messages[2];
  bool overflows = false;
};

void ask(Random& random, Talk& talk, glass_request& request) {
  const uint64_t kind = random() % 10;
  talk.overflows = kind == 0;
  talk.text = kind == 0 ? std::string(20000, 'a') : kind < 3 ? "a" : "the quick brown fox";
  if (kind == 0) {
    for (size_t i = 1; i < talk.text.size(); i += 2) talk.text[i] = ' ';
  }
  talk.messages[0] = {"system", "Be brief."};
  talk.messages[1] = {"user", talk.text.c_str()};
  if (random() % 2 == 0) {
    request.prompt = talk.text.c_str();
  } else {
    request.messages = talk.messages;
    request.message_count = 2;
  }
  request.reset = static_cast<int32_t>(random() % 2);
  request.max_new_tokens = pick<int64_t>(random, {1, 2, 7, 1000000});
}

void generate(glass_session* session, Random& random) {
  glass_request request;
  glass_request_init(&request);
  Talk talk;
  ask(random, talk, request);
  set_extremes(random, request);
  const bool spoiled = random() % 8 == 0;
  if (spoiled) spoil(random, request);
  glass_cancellation* cancellation = nullptr;
  std::thread canceller;
  if (random() % 4 == 0 && glass_cancellation_new(&cancellation) == GLASS_OK) {
    request.cancellation = cancellation;
    const std::chrono::microseconds wait(random() % 3000);
    canceller = std::thread([=] {
      std::this_thread::sleep_for(wait);
      glass_cancel(cancellation);
    });
  }
  glass_answer* answer = nullptr;
  const glass_status status = glass_generate(session, &request, &answer);
  if (canceller.joinable()) canceller.join();
  glass_cancellation_free(cancellation);
  if (spoiled) {
    if (status != GLASS_INVALID_ARGUMENT) complain("a spoiled request", status);
    ++refused;
  } else if (talk.overflows) {
    if (status != GLASS_CONTEXT_FULL) complain("too long a prompt", status);
    ++overflowed;
  } else if (status != GLASS_OK) {
    complain("a sound request", status);
  } else if (glass_answer_finish_reason(answer) == GLASS_FINISH_CANCELLED) {
    ++cancelled;
  }
  glass_stats stats;
  glass_stats_init(&stats);
  if (answer != nullptr && done % 50 == 0 && glass_answer_stats(answer, &stats) == GLASS_OK) {
    const std::lock_guard<std::mutex> lock(samples_lock);
    samples.emplace_back(static_cast<double>(done), stats.rss_mb * 1e6);
  }
  glass_answer_free(answer);
}

void work(const char* directory, int64_t generations, uint64_t seed) {
  Random random(seed);
  glass_session* session = nullptr;
  while (done < generations) {
    if (session == nullptr || random() % 200 == 0) {  // now and then a new one
      glass_close(session);
      session = nullptr;
      glass_open_options options;
      glass_open_options_init(&options);
      options.threads = 1;
      const glass_status status = glass_open(directory, &options, &session);
      if (status != GLASS_OK) return complain("glass_open", status);
    }
    generate(session, random);
    ++done;
  }
  glass_close(session);
}

// Bytes a generation, of the least-squares line through the second half of the samples.
double slope() {
  std::sort(samples.begin(), samples.end());
  const size_t from = samples.size() / 2;
  const auto count = static_cast<double>(samples.size() - from);
  double x = 0, y = 0, xx = 0, xy = 0;
  for (size_t i = from; i < samples.size(); ++i) {
    x += samples[i].first;
    y += samples[i].second;
    xx += samples[i].first * samples[i].first;
    xy += samples[i].first * samples[i].second;
  }
  const double spread = count * xx - x * x;
  return spread > 0 ? (count * xy - x * y) / spread : 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return 2;
  const int64_t generations = std::atoll(arguments[2]), threads = std::atoll(arguments[3]);
  const uint64_t seed = count > 4 ? std::strtoull(arguments[4], nullptr, 10) : 1;
  std::vector<std::thread> workers;
  for (int64_t i = 0; i < threads; ++i) {
    workers.emplace_back(work, arguments[1], generations, seed * 1000 + static_cast<uint64_t>(i));
  }
  for (std::thread& worker : workers) worker.join();
  const double growth = slope();
  std::printf(
      "%lld generations in %lld threads: %lld cancelled, %lld refused, %lld too long, %lld wrong; "
      "memory %.1f MB, growth %.1f bytes a generation\n",
      static_cast<long long>(done), static_cast<long long>(threads),
      static_cast<long long>(cancelled), static_cast<long long>(refused),
      static_cast<long long>(overflowed), static_cast<long long>(wrong),
      samples.empty() ? 0 : samples.back().second / 1e6, growth);
  const double allowed = kMaxGrowth + kSlack / static_cast<double>(generations);
  return wrong == 0 && (kSanitized || growth <= allowed) ? 0 : 1;
}
