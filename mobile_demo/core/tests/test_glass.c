/* The C interface over the fake engine: `test_glass DIRECTORY`, an artifact of any small model with
 * a chat template. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fake_engine.h"
#include "glass.h"

static const char* directory;

typedef struct pieces {
  char text[4096];
  size_t length;
  int count;
  int cancel_after;                 /* pieces until the callback cancels; 0: never */
  glass_cancellation* cancellation; /* to be set by another thread after the first piece */
} pieces;

/* Whether every character is whole: as many continuation bytes as its first byte says. */
static int is_utf8(const char* text, size_t length) {
  size_t at = 0;
  while (at < length) {
    const unsigned char first = (unsigned char)text[at++];
    int rest = first < 0x80 ? 0 : first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC2 ? 1 : -1;
    if (rest < 0) return 0;
    for (; rest > 0; --rest, ++at) {
      if (at >= length || ((unsigned char)text[at] & 0xC0) != 0x80) return 0;
    }
  }
  return 1;
}

static int32_t collect(void* context, const char* piece, size_t length) {
  pieces* all = context;
  CHECK(strlen(piece) == length && is_utf8(piece, length));
  CHECK(all->length + length < sizeof all->text);
  memcpy(all->text + all->length, piece, length + 1);
  all->length += length;
  ++all->count;
  return all->cancel_after > 0 && all->count >= all->cancel_after;
}

static glass_session* open_session(void) {
  glass_session* session = NULL;
  CHECK(glass_open(directory, NULL, &session) == GLASS_OK);
  return session;
}

static glass_request chat(const glass_message* messages, size_t count, int64_t tokens) {
  glass_request request;
  glass_request_init(&request);
  request.messages = messages;
  request.message_count = count;
  request.max_new_tokens = tokens;
  return request;
}

static const glass_message kHello[] = {{"system", "Be brief."}, {"user", "the quick brown fox"}};

/* The answer's tokens in a request; the caller frees the answer. */
static glass_answer* answer_of(glass_session* session, const glass_request* request) {
  glass_answer* answer = NULL;
  CHECK(glass_generate(session, request, &answer) == GLASS_OK && answer != NULL);
  return answer;
}

static int same_tokens(const glass_answer* a, const glass_answer* b) {
  size_t first = 0, second = 0;
  const int64_t* left = glass_answer_tokens(a, &first);
  const int64_t* right = glass_answer_tokens(b, &second);
  return first == second && memcmp(left, right, first * sizeof *left) == 0;
}

static void test_info(void) {
  glass_session* session = open_session();
  glass_info info;
  glass_info_init(&info);
  CHECK(glass_session_info(session, &info) == GLASS_OK);
  CHECK(strlen(info.model) > 0 && info.layers > 0 && info.vocab_size > 0 && info.load_ms >= 0);
  CHECK(info.has_chat_template == 1 && info.density > 0 && info.density <= 1);
  glass_info older = {0};
  older.size = offsetof(glass_info, layers); /* a caller that knows fewer fields */
  CHECK(glass_session_info(session, &older) == GLASS_OK && older.layers == 0);
  CHECK(strcmp(older.model, info.model) == 0);
  glass_close(session);
}

static void test_streams_the_answer(void) {
  glass_session* session = open_session();
  pieces all = {{0}, 0, 0, 0, NULL};
  glass_request request = chat(kHello, 2, 40);
  request.on_text = collect;
  request.context = &all;
  glass_answer* answer = answer_of(session, &request);
  CHECK(strcmp(all.text, glass_answer_text(answer)) == 0 && all.count > 1);
  glass_stats stats;
  glass_stats_init(&stats);
  CHECK(glass_answer_stats(answer, &stats) == GLASS_OK);
  size_t count = 0;
  glass_answer_tokens(answer, &count);
  CHECK(stats.new_tokens == (int64_t)count && stats.prompt_tokens > 0 && stats.ttft_ms > 0);
  CHECK(stats.kept_neurons > 0 && stats.reused_tokens == 0 && stats.rss_mb > 0);
  glass_answer_free(answer);
  glass_close(session);
}

static void test_a_seed_repeats_the_answer(void) {
  glass_session* session = open_session();
  glass_request request = chat(kHello, 2, 24);
  request.temperature = 1.5;
  request.top_k = 50;
  request.top_p = 0.95;
  request.min_p = 0.01;
  request.repetition_penalty = 1.1;
  request.has_seed = 1;
  request.seed = 7;
  request.reset = 1;
  glass_answer* first = answer_of(session, &request);
  glass_answer* again = answer_of(session, &request);
  CHECK(same_tokens(first, again));
  request.seed = 8;
  glass_answer* other = answer_of(session, &request);
  CHECK(!same_tokens(first, other));
  glass_answer_free(first);
  glass_answer_free(again);
  glass_answer_free(other);
  glass_close(session);
}

static void test_stop_strings_end_the_answer(void) {
  glass_session* session = open_session();
  glass_request request = chat(kHello, 2, 40);
  glass_answer* whole = answer_of(session, &request);
  char text[4096];
  strncpy(text, glass_answer_text(whole), sizeof text - 1);
  text[sizeof text - 1] = 0;
  size_t middle = strlen(text) / 2;
  while (middle > 0 && ((unsigned char)text[middle] & 0xC0) == 0x80) --middle;
  const char* stops[] = {"never in it", text + middle};
  request.stop = stops;
  request.stop_count = 2;
  request.reset = 1;
  glass_answer* cut = answer_of(session, &request);
  CHECK(glass_answer_finish_reason(cut) == GLASS_FINISH_STOP);
  CHECK(strlen(glass_answer_text(cut)) <= middle);
  CHECK(strncmp(glass_answer_text(cut), text, strlen(glass_answer_text(cut))) == 0);
  glass_answer_free(whole);
  glass_answer_free(cut);
  glass_close(session);
}

static void test_a_second_turn_reuses_the_first(void) {
  glass_session* session = open_session();
  glass_request request = chat(kHello, 2, 6);
  glass_answer* first = answer_of(session, &request);
  const glass_message turns[] = {
      kHello[0], kHello[1], {"assistant", glass_answer_text(first)}, {"user", "and the lazy dog?"}};
  request = chat(turns, 4, 6);
  glass_answer* second = answer_of(session, &request);
  glass_stats stats;
  glass_stats_init(&stats);
  CHECK(glass_answer_stats(second, &stats) == GLASS_OK && stats.reused_tokens > 0);
  CHECK(glass_reset(session) == GLASS_OK);
  glass_answer* third = answer_of(session, &request);
  CHECK(glass_answer_stats(third, &stats) == GLASS_OK && stats.reused_tokens == 0);
  glass_answer_free(first);
  glass_answer_free(second);
  glass_answer_free(third);
  glass_close(session);
}

static void test_settings_choose_the_neurons(void) {
  glass_session* session = open_session();
  const glass_setting settings[] = {{"density", "0.25"}, {"refresh", "4"}};
  glass_request request = chat(kHello, 2, 30);
  glass_answer* plain = answer_of(session, &request);
  request.settings = settings;
  request.setting_count = 2;
  request.reset = 1;
  glass_answer* sparse = answer_of(session, &request);
  glass_stats stats;
  glass_stats_init(&stats);
  CHECK(glass_answer_stats(sparse, &stats) == GLASS_OK);
  CHECK(stats.density == 0.25 && stats.refreshes > 1 && !same_tokens(plain, sparse));
  const glass_setting wrong[] = {{"density", "2"}};
  request.settings = wrong;
  request.setting_count = 1;
  glass_answer* answer = NULL;
  CHECK(glass_generate(session, &request, &answer) == GLASS_INVALID_ARGUMENT && answer == NULL);
  CHECK(strstr(glass_last_error(), "density: got '2'") != NULL);
  CHECK(strcmp(glass_last_error_code(), "") == 0);
  glass_answer_free(plain);
  glass_answer_free(sparse);
  glass_close(session);
}

static void test_unusable_requests(void) {
  glass_session* session = open_session();
  glass_answer* answer = NULL;
  glass_request request;
  glass_request_init(&request);
  CHECK(glass_generate(session, &request, &answer) == GLASS_INVALID_ARGUMENT);
  CHECK(glass_generate(session, NULL, &answer) == GLASS_INVALID_ARGUMENT);
  CHECK(glass_generate(NULL, &request, &answer) == GLASS_INVALID_ARGUMENT);
  request.prompt = "\xff\xfe";
  CHECK(glass_generate(session, &request, &answer) == GLASS_INVALID_ARGUMENT);
  CHECK(strstr(glass_last_error(), "UTF-8") != NULL);
  request.prompt = "x";
  request.top_p = 2;
  CHECK(glass_generate(session, &request, &answer) == GLASS_INVALID_ARGUMENT);
  CHECK(strstr(glass_last_error(), "top_p is 2") != NULL);
  request.top_p = 1;
  request.profile = "none of this name";
  CHECK(glass_generate(session, &request, &answer) == GLASS_INVALID_ARGUMENT);
  request.profile = NULL;
  request.max_new_tokens = 0;
  CHECK(glass_generate(session, &request, &answer) == GLASS_INVALID_ARGUMENT);
  request.max_new_tokens = 1;
  char* longer = calloc(40001, 1);
  for (int i = 0; i < 20000; ++i) memcpy(longer + 2 * i, "a ", 2);
  request.prompt = longer;
  CHECK(glass_generate(session, &request, &answer) == GLASS_CONTEXT_FULL && answer == NULL);
  free(longer);
  glass_close(session);
}

static void test_failures_of_the_engine(void) {
  glass_session* session = open_session();
  glass_request request = chat(kHello, 2, 4);
  glass_answer* before = answer_of(session, &request);
  glass_answer* answer = NULL;
  for (int32_t fault = 1; fault <= 2; ++fault) {
    fake_engine_fault(fault);
    request.reset = 1;
    CHECK(glass_generate(session, &request, &answer) == GLASS_ENGINE_FAILED && answer == NULL);
    CHECK(strlen(glass_last_error()) > 0);
    fake_engine_fault(0);
    request.reset = 0;
    answer = answer_of(session, &request); /* the session is still of use */
    CHECK(same_tokens(before, answer));
    glass_answer_free(answer);
  }
  glass_answer_free(before);
  glass_close(session);
}

typedef struct pending {
  glass_cancellation* cancellation;
  int64_t prefills; /* before the request */
} pending;

static void* cancel_once_it_runs(void* context) {
  pending* request = context;
  while (fake_engine_prefills() == request->prefills) {
  }
  glass_cancel(request->cancellation);
  return NULL;
}

static void test_another_thread_cancels(void) {
  glass_session* session = open_session();
  glass_request request = chat(kHello, 2, 100000);
  glass_cancellation* cancellation = NULL;
  CHECK(glass_cancellation_new(&cancellation) == GLASS_OK);
  request.cancellation = cancellation;
  fake_engine_delay(20);
  pthread_t thread;
  pending running = {cancellation, fake_engine_prefills()};
  pthread_create(&thread, NULL, cancel_once_it_runs, &running);
  glass_answer* answer = answer_of(session, &request);
  pthread_join(thread, NULL);
  fake_engine_delay(0);
  CHECK(glass_answer_finish_reason(answer) == GLASS_FINISH_CANCELLED);
  glass_answer_free(answer);
  answer = answer_of(session, &request); /* set once, it stays set */
  CHECK(glass_answer_finish_reason(answer) == GLASS_FINISH_CANCELLED);
  CHECK(strlen(glass_answer_text(answer)) == 0);
  glass_answer_free(answer);
  request.cancellation = NULL;
  request.max_new_tokens = 4;
  glass_answer* after = answer_of(session, &request);
  request.reset = 1;
  glass_answer* fresh = answer_of(session, &request);
  CHECK(same_tokens(after, fresh));
  glass_answer_free(after);
  glass_answer_free(fresh);
  glass_cancellation_free(cancellation);
  glass_close(session);
}

static void test_the_callback_cancels(void) {
  glass_session* session = open_session();
  pieces all = {{0}, 0, 0, 2, NULL};
  glass_request request = chat(kHello, 2, 100);
  request.on_text = collect;
  request.context = &all;
  glass_answer* answer = answer_of(session, &request);
  CHECK(glass_answer_finish_reason(answer) == GLASS_FINISH_CANCELLED);
  CHECK(all.count <= 3 && strcmp(all.text, glass_answer_text(answer)) == 0);
  glass_answer_free(answer);
  glass_close(session);
}

typedef struct shared {
  glass_session* session;
  int answered, busy;
} shared;

static void* answer_often(void* context) {
  shared* own = context;
  for (int i = 0; i < 20; ++i) {
    glass_request request = chat(kHello, 2, 3);
    glass_answer* answer = NULL;
    const glass_status status = glass_generate(own->session, &request, &answer);
    own->answered += status == GLASS_OK;
    own->busy += status == GLASS_BUSY;
    glass_answer_free(answer);
  }
  return NULL;
}

static void test_a_session_serves_one_call_at_a_time(void) {
  shared first = {open_session(), 0, 0}, second = {first.session, 0, 0};
  pthread_t thread;
  pthread_create(&thread, NULL, answer_often, &second);
  answer_often(&first);
  pthread_join(thread, NULL);
  CHECK(first.answered + first.busy == 20 && second.answered + second.busy == 20);
  CHECK(first.answered + second.answered > 0);
  glass_close(first.session);
}

static void test_artifacts(void) {
  glass_session* session = NULL;
  CHECK(glass_open("/nowhere", NULL, &session) == GLASS_BAD_ARTIFACT && session == NULL);
  CHECK(strstr(glass_last_error(), "/nowhere/: no such directory") != NULL);
  CHECK(strcmp(glass_last_error_code(), "no-artifact") == 0);
  CHECK(glass_open(NULL, NULL, &session) == GLASS_INVALID_ARGUMENT);
  CHECK(glass_open(directory, NULL, NULL) == GLASS_INVALID_ARGUMENT);
  glass_open_options options;
  glass_open_options_init(&options);
  options.memory_limit = 1000;
  CHECK(glass_open(directory, &options, &session) == GLASS_OUT_OF_MEMORY && session == NULL);
  CHECK(strstr(glass_last_error(), "of memory") != NULL);
  options.skip_memory_check = 1;
  CHECK(glass_open(directory, &options, &session) == GLASS_OK);
  glass_close(session);
  CHECK(glass_verify(directory, NULL) == GLASS_OK);
  glass_cancellation* cancellation = NULL;
  CHECK(glass_cancellation_new(&cancellation) == GLASS_OK);
  glass_cancel(cancellation);
  CHECK(glass_verify(directory, cancellation) == GLASS_CANCELLED);
  glass_cancellation_free(cancellation);
}

static void test_templates(void) {
  glass_session* session = open_session();
  char* text = NULL;
  CHECK(glass_render_chat(session, kHello, 2, &text) == GLASS_OK);
  CHECK(text != NULL && strstr(text, "the quick brown fox") != NULL);
  glass_text_free(text);
  CHECK(glass_render_chat(session, NULL, 0, &text) == GLASS_INVALID_ARGUMENT && text == NULL);
  glass_close(session);
}

static void test_handles_leave_nothing_behind(void) {
  const int64_t before = fake_engine_count();
  for (int i = 0; i < 20; ++i) {
    glass_session* session = open_session();
    CHECK(fake_engine_count() == before + 1);
    glass_close(session);
  }
  CHECK(fake_engine_count() == before);
  glass_close(NULL);
  glass_answer_free(NULL);
  glass_cancellation_free(NULL);
  glass_cancel(NULL);
}

int main(int count, char** arguments) {
  if (count != 2) return 2;
  directory = arguments[1];
  test_info();
  test_streams_the_answer();
  test_a_seed_repeats_the_answer();
  test_stop_strings_end_the_answer();
  test_a_second_turn_reuses_the_first();
  test_settings_choose_the_neurons();
  test_unusable_requests();
  test_failures_of_the_engine();
  test_another_thread_cancels();
  test_the_callback_cancels();
  test_a_session_serves_one_call_at_a_time();
  test_artifacts();
  test_templates();
  test_handles_leave_nothing_behind();
  return check_result();
}
